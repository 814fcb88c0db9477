#!/bin/bash
# scopes.sh RUNTIME: checks of Podman and containerd with the systemd cgroup driver and a real systemd, and of a real systemd as the
# payload. As root on a test machine: scripts/lab.sh --systemd scripts/engines/scopes.sh RUNTIME.
# One line per check; last `N passed, N failed`.
set -uo pipefail
export HERE RUNTIME=$1 DIR=/var/tmp/scopes
HERE=$(cd "$(dirname "$0")" && pwd)
[ -n "${ONGGI_LAB:-}" ] || { echo "scopes.sh: changes the machine it runs on: only for scripts/lab.sh" >&2; exit 1; }

if [ $# = 1 ]; then
    passed=0 failed=0
    mkdir -p "$DIR/root"
    BUSYBOX=$(PATH=/host/bin:/host/usr/bin command -v busybox) "$HERE/../rootfs.sh" "$DIR/root" || exit 1
    cp "$HERE/polite" "$DIR/root/bin/"
    # the machine's own root, which has systemd, as a container's root
    mkdir "$DIR/system" && mount --bind / "$DIR/system" || exit 1
    # overlayfs does not work on the file system of the lab's root
    printf '[storage]\ndriver = "vfs"\ngraphroot = "%s/podman"\nrunroot = "/run/podman"\n' "$DIR" > "$DIR/storage.conf"
    cat > "$DIR/containers.conf" <<END
[engine]
cgroup_manager = "systemd"
events_logger = "file"
runtime = "onggi"
runtime_supports_json = ["onggi"]
[engine.runtimes]
onggi = ["$RUNTIME"]
[containers]
log_driver = "k8s-file"
[network]
network_backend = "netavark"
END
    containerd --log-level warn > "$DIR/containerd.log" 2>&1 &
    for check in $(grep -oE '^check_[a-z_]+' "$0"); do
        begin=$(date +%s%N)
        if output=$(timeout -k 5 120 "$0" "$RUNTIME" "$check" 2>&1 </dev/null); then
            passed=$((passed + 1))
            printf 'PASS %-32s %6d ms\n' "${check#check_}" $((($(date +%s%N) - begin) / 1000000))
        else
            failed=$((failed + 1))
            printf 'FAIL %-32s %s\n' "${check#check_}" "$(tail -n 3 <<<"$output" | tr '\r\n' '  ' | cut -c 1-700)"
        fi
    done
    kill %1
    echo "$passed passed, $failed failed"
    [ $failed = 0 ]
    exit
fi

export ENGINE=scopes CHECK=${2#check_} LIMIT=60
export CONTAINERS_CONF=$DIR/containers.conf CONTAINERS_STORAGE_CONF=$DIR/storage.conf
# shellcheck source=scripts/engines/lib.sh
. "$HERE/lib.sh"
trap '{ podman rm --force --time 0 "$name"; ctr task kill -s KILL "$name"; ctr task rm --force "$name"; ctr container rm "$name"; } >/dev/null 2>&1' EXIT

field() { podman inspect --format "{{.$1}}" "$name"; }
has_status() { [ "$(field State.Status)" = "$1" ]; }
# scope_of PID: its cgroup, which must be an active systemd scope
scope_of() {
    local path
    path=$(sed -n 's/^0:://p' "/proc/$1/cgroup")
    [[ $path == /*.slice/*.scope ]] || die "no scope: $path"
    [ "$(systemctl show -P ActiveState "${path##*/}")" = active ] || die "$path is not active"
    [ "$(systemctl show -P ControlGroup "${path##*/}")" = "$path" ] || die "$path is not that of its unit"
    echo "/sys/fs/cgroup$path"
}
# shown SCOPE PROPERTY...: the values of these properties in systemd
shown() {
    local scope=${1##*/} values=() property
    shift
    for property; do values+=("$(systemctl show -P "$property" "$scope")"); done
    echo "${values[*]}"
}
is_gone() { [ ! -d "$1" ] && [ "$(systemctl show -P LoadState "${1##*/}")" = not-found ]; }

check_podman_run() {
    ok podman info --format '{{.Host.OCIRuntime.Name}} {{.Host.CgroupManager}}'
    is "onggi systemd"
    ok podman run --rm --network none --rootfs "$DIR/root" sh -c 'cat /proc/self/cgroup; exit 0'
    is 0::/
    exits 3 podman run --rm --network none --rootfs "$DIR/root" sh -c 'exit 3'
    exits 127 podman run --rm --network none --rootfs "$DIR/root" no-such-command
    OUT=$(systemctl list-units --all --plain --no-legend 'libpod*')
    hasnt .scope
}
check_podman_life() {
    local scope
    ok podman run --detach --network none --memory 64m --pids-limit 30 --cpu-shares 512 --name "$name" --rootfs "$DIR/root" polite
    scope=$(scope_of "$(field State.Pid)") || die "$scope"
    same "$(cat "$scope/memory.max" "$scope/pids.max" "$scope/cpu.weight")" $'67108864\n30\n59'
    same "$(shown "$scope" MemoryMax TasksMax CPUWeight)" "67108864 30 59"
    ok podman exec "$name" sh -c 'echo $$ > /tmp/pid; cat /proc/self/cgroup'
    is 0::/
    exits 7 podman exec "$name" sh -c 'exit 7'
    ok podman update --memory 32m --cpus 0.5 "$name"
    same "$(cat "$scope/memory.max" "$scope/cpu.max")" $'33554432\n50000 100000'
    same "$(shown "$scope" MemoryMax CPUQuotaPerSecUSec)" "33554432 500ms"
    systemctl daemon-reload
    same "$(cat "$scope/memory.max" "$scope/pids.max" "$scope/cpu.max")" $'33554432\n30\n50000 100000' "after daemon-reload"
    ok podman exec --tty "$name" true # a device rule that systemd had written anew would refuse /dev/pts
    ok podman stats --no-stream --format '{{.Name}} {{.PIDs}}' "$name"
    like "$name [1-9]"
    ok podman pause "$name"
    has_status paused || die "$(field State.Status)"
    ok podman unpause "$name"
    ok podman stop --time 10 "$name"
    same "$(field State.ExitCode)" 7
    soon 5 is_gone "$scope"
    ok podman start "$name"
    scope=$(scope_of "$(field State.Pid)") || die "$scope"
    ok podman rm --force --time 0 "$name"
    soon 5 is_gone "$scope"
}
# systemd_inside MANAGER: a container whose payload is a whole systemd
systemd_inside() {
    ok podman --cgroup-manager "$1" run --detach --systemd always --network none --name "$name" --rootfs "$DIR/system" /sbin/init
    soon 60 sh -c "podman --cgroup-manager $1 exec $name systemctl is-system-running | grep -qx running"
    ok podman --cgroup-manager "$1" exec "$name" systemd-run --quiet --wait --pipe --property MemoryMax=20M --property TasksMax=9 \
        sh -c 'cat /proc/self/cgroup; cat /sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup)/memory.max'
    like '^0::/system.slice/run-.*.service'
    has 20971520
    ok podman --cgroup-manager "$1" stop --time 30 "$name"
    like "^$name\$" # no message about a signal that had no effect
}
check_systemd_inside_a_scope() { systemd_inside systemd; }
check_systemd_inside_a_cgroup() { systemd_inside cgroupfs; }
check_containerd() {
    local scope with=(--runc-binary "$RUNTIME" --runc-systemd-cgroup --cgroup "system.slice:ctr:$name")
    soon 60 ctr version
    ok ctr run --rm --rootfs "${with[@]}" "$DIR/root" "$name" /bin/cat /proc/self/cgroup
    is "0::/system.slice/ctr-$name.scope"
    ok ctr run --detach --rootfs "${with[@]}" --memory-limit 67108864 "$DIR/root" "$name" /bin/sh /bin/polite
    scope=$(scope_of "$(ctr task ls | awk -v name="$name" '$1 == name {print $2}')") || die "$scope"
    same "$scope $(cat "$scope/memory.max")" "/sys/fs/cgroup/system.slice/ctr-$name.scope 67108864"
    ok ctr task exec --exec-id one "$name" /bin/cat /proc/self/cgroup
    is "0::/system.slice/ctr-$name.scope"
    ok ctr task metrics "$name"
    has memory
    ok ctr task pause "$name"
    same "$(ctr task ls | awk -v name="$name" '$1 == name {print $3}')" PAUSED
    ok ctr task resume "$name"
    ok ctr task kill --signal KILL "$name"
    soon 5 sh -c "ctr task ls | grep -q 'STOPPED'"
    ok ctr task rm "$name"
    soon 5 is_gone "$scope"
}

"$2"
