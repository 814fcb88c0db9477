#!/bin/bash
# cgroups.sh: cgroups in every world, as root. The tests of cgroup effects run on this machine's own, in a private view with nothing
# but cgroup2 mounted, and under kernels of their own (scripts/lab.sh) on cgroup v2 bare, with systemd, and on v1 with systemd; the last
# two also take the integration tests that speak of cgroups and of systemd's scopes, and on v2 real engines drive the systemd driver.
# Fails if a test failed in one of the worlds, or one could not run.
set -euo pipefail
cd "$(dirname "$0")/.."
[ "$(id -u)" = 0 ] || { echo "cgroups.sh: needs root: the tests make cgroups" >&2; exit 1; }
. scripts/toolchain.sh

unit=$(test_program --lib)
runtime=$(built onggi --bin onggi)
integration=$(test_program --test integration)
cargo build --quiet --example payload

failed=0
# world NAME COMMAND...: the tests in one world
world() {
    echo "== cgroups: $1"
    shift
    "$@" || { echo "cgroups.sh: failed with status $?"; failed=1; }
}
# one after the other, whatever the earlier one says; several reload systemd, so one test at a time
# shellcheck disable=SC2016 # the inner shell's own arguments
under_systemd='
    "$1" cgroup:: --test-threads 1; one=$?
    "$2" cgroup:: placement:: scopes:: verbs:: --test-threads 1; two=$?
    [ -z "$3" ] || scripts/engines/scopes.sh "$3"; three=$?
    [ $one = 0 ] && [ $two = 0 ] && [ $three = 0 ]'

world "this machine" "$unit" cgroup::
if [ "$(stat -f -c %T /sys/fs/cgroup)" != cgroup2fs ]; then
    # shellcheck disable=SC2016 # the inner shell's own arguments
    world "cgroup v2 view" unshare -m sh -c 'umount -R /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec "$@"' \
        sh "$unit" cgroup::
fi
world "cgroup v2" scripts/lab.sh "$unit" cgroup::
world "cgroup v2, systemd" scripts/lab.sh --systemd sh -c "$under_systemd" sh "$unit" "$integration" "$runtime"
world "cgroup v1, systemd" scripts/lab.sh --systemd --v1 sh -c "$under_systemd" sh "$unit" "$integration" ""
exit $failed
