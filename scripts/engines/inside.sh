#!/bin/bash
# inside.sh DIR RUNTIME ENGINES NAME=PATH...: pid 1 of the engines' namespaces: prepares them, starts the engines, and runs the checks or
# the command in DIR/command. Part of engines.sh.
# bash reaps every orphan, and when it ends the kernel kills all remaining processes.
set -uo pipefail
dir=$1 runtime=$2 engines=" $3 "
shift 3
peers=("$@")
here=$(cd "$(dirname "$0")" && pwd)
passed=0 failed=0 skipped=0

fail() {
    echo "engines.sh: $*"
    exit 1
}

# mounts /usr and /etc as overlays with the unpacked packages, and a new /run; the machine's own are not changed
prepare_mounts() {
    mkdir -p "$dir/etc" "$dir/work"
    mount -t overlay -o "lowerdir=$dir/packages/usr:/usr" overlay /usr || fail "overlayfs on /usr does not work here"
    # files of packages must not replace the machine's (passwd, resolv.conf)
    mount -t overlay -o "lowerdir=/etc:$dir/packages/etc,upperdir=$dir/etc,workdir=$dir/work" overlay /etc || fail "overlayfs on /etc"
    mount -t tmpfs -o mode=755 tmpfs /run
    mkdir -p /run/lock /run/netns /run/containers/storage
    # the engines would load their AppArmor profiles into this machine's kernel
    if [ "$(cat /sys/module/apparmor/parameters/enabled 2>/dev/null)" = Y ]; then
        echo N > "$dir/no-apparmor"
        mount --bind "$dir/no-apparmor" /sys/module/apparmor/parameters/enabled
    fi
}

# with v1 hierarchies, uses a private directory for them: Podman creates plain directories for missing controllers there, which would
# stay, and fails if another Podman has left some
own_cgroup_directory() {
    local place
    [ ! -f /sys/fs/cgroup/cgroup.controllers ] || return 0
    mkdir "$dir/cgroup"
    mount -t tmpfs -o mode=755 tmpfs "$dir/cgroup"
    for place in /sys/fs/cgroup/*; do
        if [ -L "$place" ]; then
            cp -d "$place" "$dir/cgroup/"
        elif mountpoint -q "$place"; then
            mkdir "$dir/cgroup/${place##*/}"
            mount --bind "$place" "$dir/cgroup/${place##*/}"
        fi
    done
    umount -R -l /sys/fs/cgroup && mount --move "$dir/cgroup" /sys/fs/cgroup || fail "no /sys/fs/cgroup of our own"
}

# a cgroup of our own, because a runtime without cgroupsPath creates its cgroup below the caller's
move_to_own_cgroup() {
    for root in /sys/fs/cgroup /sys/fs/cgroup/*/; do
        [ -w "$root/cgroup.procs" ] || continue
        mkdir -p "$root/onggi-engines"
        for file in cpuset.cpus cpuset.mems; do # an empty cpuset accepts no process
            [ ! -e "$root/onggi-engines/$file" ] || cat "$root/$file" > "$root/onggi-engines/$file"
        done 2>/dev/null
        echo $$ > "$root/onggi-engines/cgroup.procs" 2>/dev/null
    done
}

# snippet FILE: the block that README.md gives for a configuration file, with this runtime instead of the installed one
snippet() {
    awk -v file="\`$1\`" 'index($0, file) { wanted = 1 } /^```/ { if (inside) exit; inside = wanted; next } inside' "$here/../../README.md" |
        sed "s#/usr/local/bin/onggi#$runtime#" | grep . || fail "README.md has no block for $1"
}

# the configuration of README.md, and settings that make the instances private
write_configuration() {
    mkdir -p "$dir/bin" "$dir/docker-cli/cli-plugins"
    echo '{}' > "$dir/docker-cli/config.json"
    ln -sf "$runtime" "$dir/bin/runc" # BuildKit and containerd's default look for runc on PATH
    # links that the packages' own scripts would create
    for tool in iptables ip6tables; do
        command -v $tool >/dev/null || ln -sf "/usr/sbin/$tool-nft" "$dir/bin/$tool"
    done
    snippet /etc/containerd/config.toml | sed "1a\\
root = \"$dir/containerd\"\\
state = \"/run/containerd\"" > "$dir/containerd.toml"
    cat >> "$dir/containerd.toml" <<END
[plugins."io.containerd.grpc.v1.cri"]
  restrict_oom_score_adj = true
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "$dir/opt"
END
    cat > "$dir/private.json" <<END
{ "data-root": "$dir/docker", "exec-root": "/run/docker", "pidfile": "/run/docker.pid", "group": "root",
  "hosts": ["unix:///run/docker.sock"], "containerd": "/run/containerd/containerd.sock" }
END
    snippet /etc/docker/daemon.json > "$dir/readme.json" || exit 1
    python3 - "$dir" "${peers[@]}" > "$dir/dockerd.json" <<'END' || fail "README.md's daemon.json is no JSON"
import json, sys
place, *peers = sys.argv[1:]
whole = json.load(open(f"{place}/readme.json")) | json.load(open(f"{place}/private.json"))
whole["runtimes"] |= {f"peer-{name}": {"path": path} for name, path in (peer.split("=", 1) for peer in peers)}
print(json.dumps(whole))
END
    # rlimits that we may set: without CAP_SYS_RESOURCE Podman's defaults would be refused
    snippet /etc/containers/containers.conf | sed '/^\[engine\]$/a\
cgroup_manager = "cgroupfs"\
events_logger = "file"' > "$dir/containers.conf"
    cat >> "$dir/containers.conf" <<END
[containers]
log_driver = "k8s-file"
default_ulimits = ["nofile=$(ulimit -Hn):$(ulimit -Hn)", "nproc=$(ulimit -Hu):$(ulimit -Hu)"]
[network]
network_backend = "netavark"
END
    printf '[storage]\ndriver = "overlay"\ngraphroot = "%s/podman"\nrunroot = "/run/containers/storage"\n' "$dir" > "$dir/storage.conf"
    printf 'unqualified-search-registries = []\n' > "$dir/registries.conf"
    export PATH="$dir/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" HOME=/root TERM=xterm
    export DOCKER_HOST=unix:///run/docker.sock DOCKER_CONFIG="$dir/docker-cli" DOCKER_CLI_HINTS=false
    export CONTAINERD_ADDRESS=/run/containerd/containerd.sock CONTAINERS_CONF="$dir/containers.conf"
    export CONTAINERS_STORAGE_CONF="$dir/storage.conf" CONTAINERS_REGISTRIES_CONF="$dir/registries.conf"
    export BUILDAH_ISOLATION=oci PODMAN_IGNORE_CGROUPSV1_WARNING=1
    unset XDG_RUNTIME_DIR DBUS_SESSION_BUS_ADDRESS NOTIFY_SOCKET
}

# a user with a range of ids, in our own /etc, with a copy of the runtime and a home that the user can reach
prepare_user() {
    local mine=$dir/rootless
    echo 'onggi:x:4242:4242::/run/home:/bin/sh' >> /etc/passwd
    echo 'onggi:x:4242:' >> /etc/group
    echo 'onggi:300000:65536' | tee -a /etc/subuid >> /etc/subgid
    mkdir -p /run/home /run/user/4242 "$mine/storage"
    cp "$runtime" "$mine/onggi"
    sed "s,$runtime,$mine/onggi," "$dir/containers.conf" > "$mine/containers.conf"
    printf '[storage]\ndriver = "vfs"\ngraphroot = "%s/storage"\nrunroot = "/run/user/4242/containers"\n' "$mine" > "$mine/storage.conf"
    chmod 755 "$mine" "$mine/onggi"
    chmod 700 /run/user/4242
    chown 4242:4242 /run/home /run/user/4242 "$mine/storage"
    (export DIR="$dir" name=load && . "$here/rootless.sh" && podman load --quiet --input "$dir/image.tar") >/dev/null
}

make_image() {
    local root=$dir/rootfs
    BUSYBOX=$(command -v busybox) "$here/../rootfs.sh" "$root" || fail "no root file system"
    echo onggi-engines > "$root/etc/marker"
    mkdir "$root/www" && echo served > "$root/www/index.html"
    cp "$here/polite" "$here/stubborn" "$root/bin/"
    python3 "$here/image.py" "$root" "$dir/image.tar" docker.io/library/box:latest || fail "no image"
}

# start NAME READY COMMAND...: a daemon, until READY succeeds
start() {
    local name=$1 ready=$2
    shift 2
    "$@" > "$dir/$name.log" 2>&1 &
    for _ in {1..300}; do
        $ready >/dev/null 2>&1 && return
        kill -0 $! 2>/dev/null || break
        sleep 0.1
    done
    tail -n 5 "$dir/$name.log"
    fail "$name did not start"
}

# check ENGINE NAME: runs one check in a new shell with a time limit; prints one line, with the end of the output if it failed
check() {
    local begin now status
    begin=$(date +%s%N)
    (cd /run && ENGINE=$1 CHECK=$2 DIR=$dir RUNTIME=$runtime HERE=$here timeout -k 5 90 bash -c '
        . "$HERE/lib.sh"; . "$HERE/$ENGINE.sh"; "check_$CHECK"') > "$dir/output" 2>&1 </dev/null
    status=$?
    now=$(date +%s%N)
    if [ $status = 0 ]; then
        passed=$((passed + 1))
        printf 'PASS %-32s %6d ms\n' "$1 $2" $(((now - begin) / 1000000))
    elif [ $status = 77 ]; then
        skipped=$((skipped + 1))
        printf 'SKIP %-32s %s\n' "$1 $2" "$(tail -n 1 "$dir/output")"
    else
        failed=$((failed + 1))
        printf 'FAIL %-32s %6d ms  %s\n' "$1 $2" $(((now - begin) / 1000000)) \
            "$([ $status = 124 ] && echo 'out of time; '; tail -n 3 "$dir/output" | tr '\r\n' '  ' | cut -c 1-500)"
    fi
}

hostname onggi-engines
prepare_mounts
own_cgroup_directory
move_to_own_cgroup
ip link set lo up
write_configuration
make_image
used() { [[ $engines == *" $1 "* ]] && { [ -e "$dir/command" ] || grep -q "^$1 " "$dir/checks"; }; }
if used ctr || used docker; then
    start containerd "ctr version" containerd --config "$dir/containerd.toml"
    ctr image import "$dir/image.tar" >/dev/null || fail "ctr image import"
fi
if used docker; then
    start dockerd "docker version" dockerd --config-file "$dir/dockerd.json"
    docker load --quiet --input "$dir/image.tar" >/dev/null || fail "docker load"
fi
if used podman; then
    podman load --quiet --input "$dir/image.tar" >/dev/null || fail "podman load"
fi
if used rootless; then
    prepare_user || fail "podman load, as a user"
fi
if [ -e "$dir/command" ]; then
    cd /run && bash "$dir/command"
    exit
fi
while read -r engine name; do
    check "$engine" "$name"
done < "$dir/checks"
[ $skipped = 0 ] || echo "$skipped skipped"
echo "$passed passed, $failed failed" > "$dir/result"
