# podman.sh: Podman as root, with conmon between it and the runtime.
# shellcheck shell=bash disable=SC2154,SC2016,SC2034 # words of lib.sh; single quotes are for the shell in the container
trap '{ timeout 30 podman rm --force --time 0 --volumes "$name"; timeout 30 podman pod rm --force "$name-pod"; } >/dev/null 2>&1' EXIT
# container networks are netavark's work, not the runtime's: one check uses one, the others use none
rm=(podman run --rm --network none)

status_of() { podman inspect --format '{{.State.Status}}' "$name"; }
pid_of() { podman inspect --format '{{.State.Pid}}' "$name"; }
exit_code() { podman inspect --format '{{.State.ExitCode}}' "$name"; }
is_in_logs() { podman logs "$name" 2>&1 | grep -q "$1"; }
up() {
    ok podman run --detach --network none --name "$name" "$@" box polite
    soon 10 is_in_logs ready
}

check_info() { ok podman info --format '{{.Host.OCIRuntime.Name}} {{.Host.OCIRuntime.Path}}'; is "onggi $RUNTIME"; }
check_run_logs() {
    ok "${rm[@]}" box echo hello
    is hello
    up
    ok podman logs "$name"
    is ready
    ok podman ps --filter "name=$name" --format '{{.Status}}'
    like '^Up'
}
check_exit_codes() {
    exits 3 "${rm[@]}" box sh -c 'exit 3'
    exits 137 "${rm[@]}" --init box sh -c 'kill -KILL $$'
    exits 127 "${rm[@]}" box no-such-command
    has no-such-command "not found"
    exits 126 "${rm[@]}" box /etc/passwd
    has "ermission denied"
}
check_terminal() {
    ok "${pty[@]}" size:33x101 -- "${rm[@]}" --tty --interactive box sh -c 'tty; sleep 0.3; stty size'
    has /dev/pts/0 "33 101"
}
check_detach_attach() {
    ok "${pty[@]}" 'expect:# ' 'send:word=kept\n' 'expect:# ' sleep:0.2 'send:\x10' sleep:0.2 'send:\x11' -- \
        podman run --network none --name "$name" -it --env 'PS1=# ' box sh
    same "$(status_of)" running
    ok "${pty[@]}" sleep:0.5 'send:\n' 'expect:# ' 'send:echo is $word\n' 'expect:is kept' 'send:exit\n' -- podman attach "$name"
}
check_exec() {
    up
    ok podman exec "$name" echo inside
    is inside
    exits 7 podman exec "$name" sh -c 'exit 7'
    exits 127 podman exec "$name" no-such-command
    ok podman exec --user user --workdir /tmp "$name" sh -c 'id -un; pwd'
    is $'user\n/tmp'
    ok "${pty[@]}" size:25x77 -- podman exec --interactive --tty "$name" sh -c 'tty; sleep 0.3; stty size'
    has /dev/pts/ "25 77"
}
check_create_init_start() {
    ok podman create --network none --name "$name" box sh -c 'echo started; exit 3'
    ok podman init "$name"
    same "$(status_of)" initialized
    exits 3 podman start --attach "$name"
    has started
}
check_stop_kill_restart() {
    up
    ok podman kill --signal USR1 "$name"
    soon 5 is_in_logs got-usr1
    ok podman restart --time 5 "$name"
    soon 5 sh -c "[ \$(podman inspect --format '{{.State.Status}}' $name) = running ]"
    ok podman stop --time 10 "$name"
    same "$(exit_code)" 7
}
check_pause_top_stats() {
    [ -n "$v2" ] || needs_controller freezer
    up
    ok podman top "$name"
    has polite
    ok podman pause "$name"
    same "$(status_of)" paused
    ok podman unpause "$name"
    ok podman exec "$name" true
    ! has_controller memory || { ok podman stats --no-stream --format '{{.Name}} {{.PIDs}}' "$name"; like "$name [1-9]"; }
}
check_limits_update() {
    needs_controller memory pids cpu
    up --memory 128m --pids-limit 20
    same "$(limit_of "$(pid_of)" pids pids.max pids.max)" 20
    ok podman update --memory 64m --cpus 0.5 "$name"
    same "$(limit_of "$(pid_of)" memory memory.max memory.limit_in_bytes)" 67108864
    OUT=$(limit_of "$(pid_of)" cpu cpu.max cpu.cfs_quota_us)
    like '^50000'
}
check_files() {
    mkdir "/run/$name"
    ok "${rm[@]}" --volume "/run/$name:/data" box sh -c 'echo written > /data/file'
    same "$(cat "/run/$name/file")" written
    fails "${rm[@]}" --volume "/run/$name:/data:ro" box touch /data/new
    has "Read-only"
    fails "${rm[@]}" --read-only box touch /new
    has "Read-only"
    ok "${rm[@]}" --tmpfs /scratch:size=1m,mode=1777 box sh -c 'df -k /scratch | tail -n 1; stat -c %a /scratch'
    has 1024 1777
}
check_rights() {
    OUT=$("${rm[@]}" --cap-drop all --cap-add SYS_ADMIN box cat /proc/self/status | capabilities CapEff)
    is 0000000000200000
    OUT=$("${rm[@]}" --privileged box cat /proc/self/status | capabilities CapEff)
    is "$(all_capabilities)"
    ok "${rm[@]}" --security-opt no-new-privileges box grep -E '^(NoNewPrivs|Seccomp):' /proc/self/status
    is $'NoNewPrivs:\t1\nSeccomp:\t2'
}
check_user_namespace() {
    ok "${rm[@]}" --uidmap 0:200000:5000 --gidmap 0:200000:5000 box cat /proc/self/uid_map
    like '0 +200000 +5000'
}
check_namespaces() {
    up
    ok "${rm[@]}" --pid host --ipc host box sh -c 'readlink /proc/self/ns/pid; readlink /proc/self/ns/ipc'
    is "$(readlink /proc/self/ns/pid; readlink /proc/self/ns/ipc)"
    ok "${rm[@]}" --pid "container:$name" box ps
    has polite
}
check_network_bridge() {
    ok podman run --rm box sh -c 'ip -o addr show eth0; ip route'
    has "10.88." default
}
check_pod() {
    ok podman pod create --name "$name-pod"
    ok podman run --detach --pod "$name-pod" --name "$name" box httpd -f -h /www
    ok podman run --rm --pod "$name-pod" box sh -c "$(get 127.0.0.1)"
    has served
    same "$(podman run --rm --pod "$name-pod" box readlink /proc/self/ns/ipc)" "$(podman exec "$name" readlink /proc/self/ns/ipc)"
    ok podman pod rm --force "$name-pod"
}
check_build() {
    mkdir "/run/$name"
    printf 'FROM box\nRUN echo built > /built && id -u\nUSER user\nRUN id -un > /tmp/who\nCMD cat /built /tmp/who\n' > "/run/$name/Dockerfile"
    LIMIT=80 ok podman build --quiet --no-cache --network none --tag "localhost/$name" "/run/$name"
    ok "${rm[@]}" "localhost/$name"
    podman rmi --force "localhost/$name" >/dev/null 2>&1
    is $'built\nuser'
}
check_nothing_left() {
    up
    local cgroup
    cgroup=$(cgroup_of "$(pid_of)" pids)
    [ -d "$cgroup" ] || die "no $cgroup"
    ok podman rm --force --time 0 "$name"
    [ ! -d "$cgroup" ] || die "$cgroup is left"
}

count='i=0; while :; do i=$((i+1)); echo $i; sleep 0.1; done'
last() { podman logs --tail 1 "$name"; }
check_checkpoint_restore() {
    ok podman run --detach --name "$name" --network none box sh -c "$count"
    sleep 1
    ok podman container checkpoint "$name"
    ok podman inspect --format '{{.State.Status}}' "$name"
    is exited
    local before
    before=$(last)
    ok podman container restore "$name"
    sleep 0.5
    [ "$(last)" -gt "$before" ] || die "it counted to $before, then to $(last)"
}
check_checkpoint_export() {
    ok podman run --detach --name "$name" --network none box polite
    sleep 0.5
    ok podman container checkpoint --export "/run/$name.tar.gz" "$name"
    ok podman rm --force "$name"
    ok podman container restore --import "/run/$name.tar.gz"
    ok podman exec "$name" ps
    has polite
    rm "/run/$name.tar.gz"
}
