# ctr.sh: checks of containerd with its own client: the runc shim and the runtime, without an engine above them.
# shellcheck shell=bash disable=SC2154,SC2016,SC2034 # words of lib.sh; single quotes are for the shell in the container
image=docker.io/library/box:latest
with=(--runc-binary "$RUNTIME")
trap '{ ctr task kill --signal KILL "$name"; sleep 0.1; ctr task rm --force "$name"; ctr container rm "$name"; } >/dev/null 2>&1' EXIT

row() { ctr task ls | awk -v name="$name" -v field="$1" '$1 == name {print $field}'; }
has_state() { [ "$(row 3)" = "$1" ]; }
# starts a container that answers signals
up() {
    ctr run --detach --log-uri "file:///run/$name.log" "${with[@]}" $image "$name" polite > "/run/$name.out" 2>&1 </dev/null ||
        die "ctr run: $(cat "/run/$name.out")"
    soon 10 grep -q ready "/run/$name.log"
}

# told COMMAND...: the output of a program that ends at once. ctr closes its pipes when it learns of the end, sometimes before it has read
# them (with runc too: 2 of 600 outputs were empty), so an empty output is retried
told() {
    local try
    for try in 1 2 3; do
        ok "$@"
        [ -z "$OUT" ] || return 0
    done
}

check_run() {
    told ctr run --rm "${with[@]}" $image "$name" echo hello
    is hello
    exits 42 ctr run --rm "${with[@]}" $image "$name" sh -c 'exit 42'
    ok ctr container ls --quiet
    is ""
}
# README.md's configuration for Kubernetes; ctr cannot select a handler
check_cri_handler() {
    ok ctr plugins ls
    like "cri[^"$'\n'"]* ok"
    ok containerd --config "$DIR/containerd.toml" config dump
    like "BinaryName = .$RUNTIME."
}
check_run_as_runc() {
    told ctr run --rm --runtime io.containerd.runc.v2 $image "$name" echo "found on PATH"
    is "found on PATH"
}
check_terminal() {
    ok "${pty[@]}" size:31x97 sleep:0.1 -- ctr run --rm --tty "${with[@]}" $image "$name" sh -c 'sleep 0.5; tty; stty size; sleep 0.3'
    has /dev/pts/0 "31 97"
}
check_exec() {
    up
    told ctr task exec --exec-id one "$name" echo inside
    is inside
    exits 9 ctr task exec --exec-id one "$name" sh -c 'exit 9'
    told ctr task exec --exec-id one --user 1000:1000 --cwd /tmp "$name" sh -c 'id -u; pwd'
    is $'1000\n/tmp'
    fails ctr task exec --exec-id one "$name" no-such-command
    has no-such-command
    has_state RUNNING || die "$(row 3)"
}
check_kill() {
    up
    ok ctr task kill --signal USR1 "$name"
    soon 5 grep -q got-usr1 "/run/$name.log"
    ok ctr task kill --signal TERM "$name"
    soon 5 has_state STOPPED
    fails ctr task kill "$name"
    has "not found"
}
check_pause() {
    [ -n "$v2" ] || needs_controller freezer
    up
    ok ctr task pause "$name"
    has_state PAUSED || die "$(row 3)"
    ok ctr task resume "$name"
    has_state RUNNING || die "$(row 3)"
    ok ctr task exec --exec-id one "$name" true
}
check_metrics_ps() {
    needs_controller pids
    up
    ok ctr task metrics "$name"
    has pids.current
    ok ctr task ps "$name"
    has "$(row 2)"
}
check_recursive_read_only() {
    mkdir -p "/run/$name/below"
    mount -t tmpfs none "/run/$name/below"
    run ctr run --rm --mount "type=bind,src=/run/$name,dst=/mnt,options=rbind:rro" "${with[@]}" $image "$name" touch /mnt/below/new
    umount "/run/$name/below"
    [ "$STATUS" != 0 ] || die "a mount below an rro bind can be written"
    has "Read-only"
}
check_privileged_seccomp() {
    OUT=$(ctr run --rm --privileged "${with[@]}" $image "$name" cat /proc/self/status | capabilities CapEff)
    is "$(all_capabilities)"
    told ctr run --rm --seccomp "${with[@]}" $image "$name" grep Seccomp: /proc/self/status
    like '2$'
}
check_user_namespace() {
    told ctr run --rm --uidmap 0:100000:2000 --gidmap 0:100000:2000 "${with[@]}" $image "$name" sh -c 'id -u; cat /proc/self/uid_map'
    like $'^0\n +0 +100000 +2000$'
}
check_failure_leaves_nothing() {
    fails ctr run --rm "${with[@]}" $image "$name" no-such-command
    has no-such-command "not found"
    OUT=$(ls /run/containerd/runc/default 2>/dev/null; ls -d "/sys/fs/cgroup/default/$name" /sys/fs/cgroup/*/default/"$name" 2>/dev/null)
    hasnt "$name"
}

check_checkpoint_restore() {
    up
    ok ctr container checkpoint --task --rw "$name" "saved/$name:1"
    ok ctr task kill --signal KILL "$name"
    soon 5 has_state STOPPED
    ok ctr task rm "$name"
    ok ctr container rm "$name"
    ok ctr container restore --live "$name" "saved/$name:1"
    told ctr task exec --exec-id one "$name" ps
    has polite
    ok ctr image rm "saved/$name:1"
}
