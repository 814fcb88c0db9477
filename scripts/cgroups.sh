#!/bin/bash
# cgroups.sh [FILTER]: the tests of cgroup effects in every cgroup world, as root: this machine's own, a private view with nothing but
# cgroup2 mounted, and under kernels of their own (scripts/lab.sh) cgroup v2 bare, with systemd, and v1 with systemd.
# Fails if a test failed in one of them, or one could not run.
set -euo pipefail
cd "$(dirname "$0")/.."
[ "$(id -u)" = 0 ] || { echo "cgroups.sh: needs root: the tests make cgroups" >&2; exit 1; }
. scripts/toolchain.sh
filter=${1:-cgroup::}

test=$(cargo test --lib --no-run --message-format=json | sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -n 1)
[ -x "$test" ] || { echo "cgroups.sh: cargo made no test program" >&2; exit 1; }

failed=0
# world NAME COMMAND...: the tests in one world
world() {
    echo "== cgroups: $1"
    shift
    "$@" || { echo "cgroups.sh: failed with status $?"; failed=1; }
}
world "this machine" "$test" "$filter"
if [ "$(stat -f -c %T /sys/fs/cgroup)" != cgroup2fs ]; then
    # shellcheck disable=SC2016 # the inner shell's own arguments
    world "cgroup v2 view" unshare -m sh -c 'umount -R /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec "$@"' \
        sh "$test" "$filter"
fi
world "cgroup v2" scripts/lab.sh "$test" "$filter"
# one at a time: several reload systemd
world "cgroup v2, systemd" scripts/lab.sh --systemd "/host$test" "$filter" --test-threads 1
world "cgroup v1, systemd" env LAB_KERNEL=systemd.unified_cgroup_hierarchy=0 \
    scripts/lab.sh --systemd "/host$test" "$filter" --test-threads 1
exit $failed
