# docker.sh: checks of Docker. Each check is a function check_NAME; engines.sh finds them by that name.
# shellcheck shell=bash disable=SC2154,SC2016,SC2034 # words of lib.sh; single quotes are for the shell in the container
trap 'docker rm --force --volumes "$name" >/dev/null 2>&1' EXIT

status_of() { docker inspect --format '{{.State.Status}}' "$name"; }
pid_of() { docker inspect --format '{{.State.Pid}}' "$name"; }
exit_code() { docker inspect --format '{{.State.ExitCode}}' "$name"; }
is_in_logs() { docker logs "$name" 2>&1 | grep -q "$1"; }
has_status() { [ "$(status_of)" = "$1" ]; }
# starts a container that answers signals
up() {
    ok docker run --detach --name "$name" "$@" box polite
    soon 10 is_in_logs ready
}

# --- the life of a container
check_info() { ok docker info; has "Default Runtime: onggi"; hasnt "WARNING: onggi"; }
check_run_rm() {
    ok docker run --rm --name "$name" box echo hello
    is hello
    soon 5 sh -c "! docker inspect $name"
}
check_create_start_restart_rm() {
    ok docker create --name "$name" box polite
    same "$(status_of)" created
    ok docker start "$name"
    soon 10 is_in_logs ready
    local first
    first=$(pid_of)
    ok docker restart --time 5 "$name"
    same "$(status_of)" running
    [ "$(pid_of)" != "$first" ] || die "the same process after restart"
    fails docker rm "$name"
    ok docker rm --force "$name"
    fails docker inspect "$name"
}
check_start_attached() {
    ok docker run --name "$name" box sh -c 'echo once more'
    ok docker start --attach "$name"
    is "once more"
}
check_ps_inspect() {
    up
    ok docker ps --filter "name=$name" --format '{{.Status}}'
    like '^Up'
    OUT=$(tr '\0' ' ' < "/proc/$(pid_of)/cmdline")
    has polite
    ok docker inspect --format '{{.State.Running}} {{.HostConfig.Runtime}}' "$name"
    is "true onggi"
}
check_ps_all_exited() {
    exits 3 docker run --name "$name" box sh -c 'exit 3'
    ok docker ps --all --filter "name=$name" --format '{{.Status}}'
    like 'Exited \(3\)'
}
check_logs_follow() {
    ok docker run --detach --name "$name" box sh -c 'for i in 1 2 3; do echo line $i; sleep 0.2; done; echo error >&2'
    ok docker logs --follow "$name"
    is $'line 1\nline 2\nline 3\nerror'
}
check_top_stats() {
    up
    ok docker top "$name"
    has PID polite
    ok docker stats --no-stream --format '{{.Name}} {{.PIDs}} {{.MemUsage}}' "$name"
    has "$name"
    ! has_controller pids || like ' [1-9]'
}
check_stdin_stdout() {
    OUT=$(head -c 1048576 /dev/zero | timeout 30 docker run --interactive --rm box wc -c)
    is 1048576
    OUT=$(timeout 30 docker run --rm box head -c 8388608 /dev/zero | wc -c)
    is 8388608
}
check_parallel() {
    for i in {1..8}; do timeout 60 docker run --rm box echo "run $i" > "/run/$name.$i" 2>&1 & done
    wait
    OUT=$(sort /run/"$name".?)
    is "$(printf 'run %d\n' {1..8})"
}

# --- terminals
check_terminal() {
    ok "${pty[@]}" size:33x101 -- docker run --rm --tty --interactive box sh -c 'tty; sleep 0.5; stty size; test -c /dev/console && echo console'
    has /dev/pts/0 "33 101" console
}
check_terminal_resize() {
    ok "${pty[@]}" size:20x60 'expect:# ' 'send:stty size\n' 'expect:20 60' resize:41x123 'send:exit\n' \
        -- docker run --rm --tty --interactive --env 'PS1=# ' box sh
}
check_terminal_interrupt() {
    exits 9 "${pty[@]}" expect:ready 'send:\x03' -- docker run --rm --tty --interactive box polite
    has got-int
}
check_detach_attach() {
    ok "${pty[@]}" 'expect:# ' 'send:word=kept\n' 'expect:# ' 'send:\x10\x11' -- docker run --name "$name" -it --env 'PS1=# ' box sh
    same "$(status_of)" running
    ok "${pty[@]}" sleep:0.3 'send:\n' 'expect:# ' 'send:echo is $word\n' 'expect:is kept' 'send:exit\n' -- docker attach "$name"
    soon 5 has_status exited
}

# --- exec
check_exec() {
    up
    ok docker exec "$name" echo inside
    is inside
    exits 7 docker exec "$name" sh -c 'exit 7'
    OUT=$(echo piped | timeout 20 docker exec --interactive "$name" cat)
    is piped
    fails docker exec "$name" no-such-command # 126 from old Dockers, 127 from newer ones
    has "executable file not found"
    exits 126 docker exec "$name" /etc/passwd
}
check_exec_options() {
    up
    ok docker exec --user user --workdir /tmp --env WORD=said "$name" sh -c 'id -un; pwd; echo $WORD $IMAGE'
    is $'user\n/tmp\nsaid yes'
}
check_exec_terminal() {
    up
    ok "${pty[@]}" size:25x77 -- docker exec --interactive --tty "$name" sh -c 'tty; sleep 0.3; stty size'
    has /dev/pts/ "25 77"
}
check_exec_where_init_is() {
    up --cap-drop ALL --cap-add CHOWN
    for namespace in pid net ipc uts mnt cgroup; do
        same "$(docker exec "$name" readlink /proc/self/ns/$namespace)" "$(docker exec "$name" readlink /proc/1/ns/$namespace)" $namespace
    done
    same "$(docker exec "$name" cat /proc/self/cgroup)" "$(docker exec "$name" cat /proc/1/cgroup)"
    OUT=$(docker exec "$name" cat /proc/self/status | capabilities CapBnd)
    is 0000000000000001
}

# --- ends
check_exit_codes() {
    exits 0 docker run --rm box true
    exits 3 docker run --rm box sh -c 'exit 3'
    exits 137 docker run --rm --init box sh -c 'kill -KILL $$'
}
check_exit_127() {
    exits 127 docker run --rm box no-such-command
    has no-such-command "not found"
    exits 127 docker run --rm box /no/such/command
    has "no such file or directory"
}
check_exit_126() {
    exits 126 docker run --rm box /etc/passwd
    has "permission denied"
    exits 126 docker run --rm box /etc
}
check_stop() {
    up
    ok docker stop --time 10 "$name"
    same "$(exit_code)" 7
    is_in_logs got-term || die "no SIGTERM arrived"
}
check_stop_stubborn() {
    ok docker run --detach --name "$name" box stubborn
    soon 10 is_in_logs ready
    ok docker stop --time 1 "$name"
    same "$(exit_code)" 137
}
check_kill() {
    up
    ok docker kill --signal USR1 "$name"
    soon 5 is_in_logs got-usr1
    same "$(status_of)" running
    ok docker kill "$name"
    same "$(docker wait "$name")" 137
}
check_nothing_left() {
    up
    local cgroup
    cgroup=$(cgroup_of "$(pid_of)" pids)
    [ -d "$cgroup" ] || die "no $cgroup"
    ok docker rm --force "$name"
    [ ! -d "$cgroup" ] || die "$cgroup is left"
    fails docker run --name "$name" box no-such-command
    docker rm --force "$name" >/dev/null
    OUT=$(ls /run/docker/runtime-runc/moby 2>/dev/null)
    is ""
}
check_restart_policy() {
    ok docker run --detach --name "$name" --restart on-failure:2 box sh -c 'exit 5'
    soon 20 sh -c "docker inspect --format '{{.State.Status}} {{.RestartCount}}' $name | grep -q 'exited 2'"
}
check_health() {
    ok docker run --detach --name "$name" --health-cmd 'test -f /etc/marker' --health-interval 1s box polite
    soon 20 sh -c "docker inspect --format '{{.State.Health.Status}}' $name | grep -qx healthy"
}
check_pause() {
    [ -n "$v2" ] || needs_controller freezer
    up
    ok docker pause "$name"
    same "$(status_of)" paused
    fails docker exec "$name" true
    has paused
    ok docker unpause "$name"
    ok docker exec "$name" true
    ok docker pause "$name"
    ok docker rm --force "$name"
}

# --- limits
check_limits() {
    needs_controller memory pids cpu
    up --memory 64m --memory-swap 64m --pids-limit 20 --cpus 0.25
    same "$(limit_of "$(pid_of)" memory memory.max memory.limit_in_bytes)" 67108864
    same "$(limit_of "$(pid_of)" pids pids.max pids.max)" 20
    OUT=$(limit_of "$(pid_of)" cpu cpu.max cpu.cfs_quota_us)
    like '^25000'
}
check_update() {
    needs_controller memory pids cpu
    up --memory 128m --memory-swap 256m
    ok docker update --memory 64m --memory-swap 128m --pids-limit 77 --cpus 0.5 "$name"
    same "$(limit_of "$(pid_of)" memory memory.max memory.limit_in_bytes)" 67108864
    same "$(limit_of "$(pid_of)" pids pids.max pids.max)" 77
    OUT=$(limit_of "$(pid_of)" cpu cpu.max cpu.cfs_quota_us)
    like '^50000'
}
check_out_of_memory() {
    needs_controller memory
    exits 137 docker run --name "$name" --memory 24m --memory-swap 24m box sh -c 'word=0123456789abcdef; while :; do word=$word$word; done'
    same "$(docker inspect --format '{{.State.OOMKilled}}' "$name")" true
}
check_ulimit_sysctl() {
    ok docker run --rm --ulimit nofile=123:456 --sysctl net.ipv4.ip_default_ttl=77 box \
        sh -c 'ulimit -Sn; ulimit -Hn; cat /proc/sys/net/ipv4/ip_default_ttl'
    is $'123\n456\n77'
}
check_cgroup_parent_namespace() {
    up --cgroup-parent /onggi-engines/parent
    OUT=$(cat "/proc/$(pid_of)/cgroup")
    has /onggi-engines/parent/
    ok docker run --rm --cgroupns private box cat /proc/self/cgroup
    hasnt docker
    ok docker run --rm --cgroupns host box cat /proc/self/cgroup
    has docker
}

# --- files
check_volumes() {
    mkdir "/run/$name"
    echo before > "/run/$name/file"
    ok docker run --rm --volume "/run/$name:/data" box sh -c 'cat /data/file; echo after > /data/file'
    is before
    same "$(cat "/run/$name/file")" after
    fails docker run --rm --volume "/run/$name:/data:ro" box touch /data/new
    has "Read-only"
    ok docker volume create "$name"
    ok docker run --rm --volume "$name:/data" box sh -c 'echo kept > /data/file'
    ok docker run --rm --volume "$name:/data" box cat /data/file
    is kept
    ok docker volume rm "$name"
}
check_read_only_tmpfs() {
    fails docker run --rm --read-only box touch /new
    has "Read-only"
    ok docker run --rm --read-only --tmpfs /scratch:size=1m,mode=1777,noexec box sh -c 'touch /scratch/new; stat -c %a /scratch; grep " /scratch " /proc/mounts'
    has 1777 size=1024k noexec
}
# 1:2 has no driver: if the device cgroup allows it, open fails with ENXIO, otherwise with EPERM
check_device() {
    mknod "/run/$name" c 1 2
    ok docker run --rm --device "/run/$name:/dev/mine:r" box sh -c '(: < /dev/mine) 2>&1; (: > /dev/mine) 2>&1; true'
    like $'No such device or address\n.*not permitted$'
    ok docker run --rm --device-cgroup-rule 'c 1:2 w' box sh -c 'mknod /mine c 1 2; (: < /mine) 2>&1; (: > /mine) 2>&1; true'
    like $'not permitted\n.*No such device or address$'
}
check_masked_paths() {
    ok docker run --rm box sh -c 'cat /proc/timer_list /proc/keys 2>/dev/null | wc -c; (echo 1 > /proc/sys/kernel/msgmax) 2>&1; ls -A /sys/firmware | wc -l'
    has "Read-only"
    like $'^0\n.*\n0$'
}
check_no_leaked_descriptors() {
    ok docker run --rm box ls /proc/self/fd
    is $'0\n1\n2\n3'
}

# --- rights
check_user() {
    ok docker run --rm --user user box id -un
    is user
    ok docker run --rm --user 1234:4321 --group-add 55 box sh -c 'id -u; id -g; id -G'
    is $'1234\n4321\n4321 55'
}
check_capabilities() {
    OUT=$(docker run --rm box cat /proc/self/status | capabilities CapEff)
    is 00000000a80425fb
    OUT=$(docker run --rm --cap-add SYS_ADMIN --cap-drop CHOWN box cat /proc/self/status | capabilities CapEff)
    is 00000000a82425fa
    OUT=$(docker run --rm --cap-drop ALL box cat /proc/self/status | capabilities CapBnd)
    is 0000000000000000
    OUT=$(docker run --rm --user 1000 box cat /proc/self/status | capabilities CapEff)
    is 0000000000000000
}
check_privileged() {
    run docker run --rm --privileged box cat /proc/self/status
    # old Dockers ask for every capability that the kernel knows, even if this machine's root lacks it
    [[ $STATUS = 0 || $(all_capabilities) = "$(every_capability)" ]] || skip "this Docker wants capabilities that root lacks here"
    # ... and know none above CAP_AUDIT_READ
    local held wanted
    held=$((0x$(capabilities CapEff <<<"$OUT"))) wanted=$((0x$(all_capabilities) & 0x3fffffffff))
    same $((held & wanted)) $wanted "capabilities"
    ok docker run --rm --privileged box sh -c 'mount -t tmpfs none /tmp && echo mounted'
    is mounted
}
check_seccomp() {
    ok docker run --rm box grep Seccomp: /proc/self/status
    like '2$'
    fails docker run --rm box unshare -m true
    ok docker run --rm --security-opt seccomp=unconfined box grep Seccomp: /proc/self/status
    like '0$'
    echo '{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":95}]}' > "/run/$name.json"
    fails docker run --rm --security-opt "seccomp=/run/$name.json" box mkdir /tmp/new
    has "Operation not supported"
}
check_no_new_privileges() {
    ok docker run --rm --security-opt no-new-privileges box grep NoNewPrivs /proc/self/status
    like '1$'
    ok docker run --rm box grep NoNewPrivs /proc/self/status
    like '0$'
}

# --- namespaces and networks
check_host_namespaces() {
    for namespace in pid:--pid ipc:--ipc uts:--uts net:--network; do
        ok docker run --rm "${namespace#*:}" host box readlink "/proc/self/ns/${namespace%:*}"
        is "$(readlink "/proc/self/ns/${namespace%:*}")"
    done
}
check_container_namespaces() {
    up --ipc shareable
    ok docker run --rm --pid "container:$name" --ipc "container:$name" --network "container:$name" box \
        sh -c 'for type in pid ipc net; do readlink /proc/self/ns/$type; done'
    is "$(docker exec "$name" sh -c 'for type in pid ipc net; do readlink /proc/1/ns/$type; done')"
}
check_network_none() {
    ok docker run --rm --network none box ip -o link
    like '^1: lo:'
    hasnt eth0 "2: "
}
check_network_bridge() {
    ok docker run --rm box sh -c 'ip -o addr show eth0; ip route'
    has "172.17." "default via 172.17.0.1"
    ok docker run --rm box ping -c 1 -W 2 172.17.0.1
}
check_network_between() {
    ok docker network create "$name"
    run docker run --detach --name "$name" --network "$name" box httpd -f -h /www
    address=$(docker inspect --format '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' "$name")
    run docker run --rm --network "$name" box sh -c "$(get "$address")"
    docker rm --force "$name" >/dev/null
    docker network rm "$name" >/dev/null
    has served
}
check_init() {
    ok docker run --rm --init box ps
    like 'docker-init|tini'
    ok docker run --detach --name "$name" --init box polite
    soon 10 is_in_logs ready
    ok docker stop --time 5 "$name"
    same "$(exit_code)" 7
}

# --- build
build_with() {
    mkdir "/run/$name"
    printf 'FROM box\nRUN echo built > /built && id -u\nCOPY file /file\nUSER user\nRUN id -un > /tmp/who\nCMD cat /built /file /tmp/who\n' > "/run/$name/Dockerfile"
    echo copied > "/run/$name/file"
    LIMIT=80 ok env "DOCKER_BUILDKIT=$1" docker build --quiet --tag "$name" "/run/$name"
    ok docker run --rm "$name"
    docker rmi --force "$name" >/dev/null 2>&1
    is $'built\ncopied\nuser'
}
check_build_classic() { build_with 0; }
check_build_buildkit() {
    docker buildx version >/dev/null 2>&1 || skip "this distribution has no buildx"
    build_with 1
}
