#!/bin/bash
# cgroups.sh: the cgroup tests in every cgroup layout ("world"), as root. The unit tests of cgroups run on this machine, in a private view
# with only cgroup2 mounted, and in User Mode Linux (scripts/lab.sh) with cgroup v2, with cgroup v2 and systemd, and with v1 and systemd. The
# last two also run the integration tests of cgroups and systemd scopes, and on v2 real engines use the systemd driver.
# Fails if a test failed in one of them, or one could not run.
set -euo pipefail
cd "$(dirname "$0")/.."
[ "$(id -u)" = 0 ] || { echo "cgroups.sh: needs root: the tests make cgroups" >&2; exit 1; }
. scripts/toolchain.sh

unit=$(test_program --lib)
runtime=$(built onggi --bin onggi)
integration=$(test_program --test integration)
cargo build --quiet --example payload

failed=0
# world NAME COMMAND...: runs the tests in one cgroup layout
world() {
    echo "== cgroups: $1"
    shift
    "$@" || { echo "cgroups.sh: failed with status $?"; failed=1; }
}
# runs all three, even if one fails; some tests reload systemd, so one test at a time
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
