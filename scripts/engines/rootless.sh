# rootless.sh: checks of Podman as an unprivileged user, which calls the runtime as root of a user namespace; and of the runtime itself.
# shellcheck shell=bash disable=SC2154,SC2016,SC2034 # words of lib.sh; single quotes are for the shell in the container
user=(setpriv --reuid 4242 --regid 4242 --init-groups env HOME=/run/home USER=onggi XDG_RUNTIME_DIR=/run/user/4242
    CONTAINERS_CONF="$DIR/rootless/containers.conf" CONTAINERS_STORAGE_CONF="$DIR/rootless/storage.conf")
podman() { "${user[@]}" podman "$@"; }
trap '{ timeout 30 "${user[@]}" podman rm --force --time 0 --volumes "$name"; } >/dev/null 2>&1' EXIT
pod=("${user[@]}" podman)
rm=("${pod[@]}" run --rm --network none)
cd /run/home || exit 1

is_in_logs() { podman logs "$name" 2>&1 | grep -q "$1"; }
up() {
    ok "${pod[@]}" run --detach --network none --name "$name" box polite
    soon 10 is_in_logs ready
}

check_info() {
    ok "${pod[@]}" info --format '{{.Host.Security.Rootless}} {{.Host.OCIRuntime.Name}} {{.Host.OCIRuntime.Path}}'
    is "true onggi $DIR/rootless/onggi"
}
check_run() {
    ok "${rm[@]}" box sh -c 'id -u; cat /proc/self/uid_map'
    like '^0.*0 +4242 +1.*1 +300000 +65536'
    exits 3 "${rm[@]}" box sh -c 'exit 3'
    exits 127 "${rm[@]}" box no-such-command
    has no-such-command "not found"
    exits 126 "${rm[@]}" box /etc/passwd
    ok "${rm[@]}" --user user box sh -c 'id -un; head -c 2 /dev/zero | wc -c; echo x > /dev/null'
    is $'user\n2'
}
check_exec_stop() {
    up
    same "$(stat -c %u "/proc/$(podman inspect --format '{{.State.Pid}}' "$name")")" 4242
    ok "${pod[@]}" exec "$name" sh -c 'id -u; echo inside'
    is $'0\ninside'
    exits 7 "${pod[@]}" exec --user user "$name" sh -c 'exit 7'
    ok "${pty[@]}" size:25x77 -- "${pod[@]}" exec --interactive --tty "$name" sh -c 'tty; sleep 0.3; stty size'
    has /dev/pts/ "25 77"
    ok "${pod[@]}" kill --signal USR1 "$name"
    soon 5 is_in_logs got-usr1
    ok "${pod[@]}" restart --time 5 "$name"
    ok "${pod[@]}" stop --time 10 "$name"
    same "$(podman inspect --format '{{.State.ExitCode}}' "$name")" 7
}
check_files() {
    "${user[@]}" mkdir "/run/home/$name"
    ok "${rm[@]}" --volume "/run/home/$name:/data" box sh -c 'echo written > /data/file; chown user /data/file'
    same "$(cat "/run/home/$name/file")" written
    fails "${rm[@]}" --volume "/run/home/$name:/data:ro" box touch /data/new
    has "Read-only"
    ok "${rm[@]}" --userns keep-id box sh -c 'id -u; touch /tmp/x && stat -c %u /tmp/x'
    is $'4242\n4242'
}
check_terminal_rights() {
    ok "${pty[@]}" size:33x101 -- "${rm[@]}" --tty --interactive box sh -c 'tty; sleep 0.3; stty size'
    has /dev/pts/0 "33 101"
    ok "${rm[@]}" --privileged box sh -c 'mount -t tmpfs t /tmp && echo mounted'
    is mounted
    ok "${rm[@]}" --sysctl net.ipv4.ip_default_ttl=77 box sh -c 'cat /proc/sys/net/ipv4/ip_default_ttl; grep Seccomp: /proc/self/status'
    is $'77\nSeccomp:\t2'
}
check_build() {
    "${user[@]}" mkdir "/run/home/$name"
    printf 'FROM box\nRUN echo built > /built && id -u\nUSER user\nCMD cat /built\n' > "/run/home/$name/Dockerfile"
    LIMIT=80 ok "${pod[@]}" build --quiet --no-cache --network none --tag "localhost/$name" "/run/home/$name"
    ok "${rm[@]}" "localhost/$name"
    podman rmi --force "localhost/$name" >/dev/null 2>&1
    is built
}
check_without_an_engine() {
    "${user[@]}" mkdir "/run/home/$name"
    cd "/run/home/$name" || exit 1
    cp -r "$DIR/rootfs" . && chown -R 4242:4242 rootfs
    ok "${user[@]}" "$DIR/rootless/onggi" spec --rootless
    sed -i 's/"terminal": true/"terminal": false/; s/"sh"/"id", "-u"/' config.json
    ok "${user[@]}" "$DIR/rootless/onggi" run "$name"
    is 0
    local state
    state=/run/user/4242/$("$DIR/rootless/onggi" --version | sed 's/ .*//;q')
    same "$(stat -c %a "$state")" 1700
    same "$(ls "$state")" ''
}
