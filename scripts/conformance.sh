#!/bin/bash
# conformance.sh [RUNTIME] [--suite NAME]... [--world native|v2|lab]: runs other projects' suites on onggi (built here), or on another
# runtime with runc's command line. As root, on Debian or Ubuntu; missing programs are installed and sources fetched from the distribution.
#
#   --suite runtime-tools   OCI's validation programs, 58 of them
#           runc-1.1.5      runc's integration tests, of the version in Debian 12
#           runc-1.3.6      the same of the version in Debian unstable
#           schema          OCI's JSON schemas: documents that the runtime writes and accepts
#           Default: all but runc-1.3.6.
#   --world native          the cgroups of this machine
#           v2              a private view with only cgroup2 mounted
#           lab             User Mode Linux (scripts/lab.sh) with all controllers of cgroup2
#
# Prints one line per test and one per suite. scripts/conformance/known-SUITE.txt lists the tests that onggi does not pass, with the
# reasons: the command fails if another test fails, or if a listed one passes. Results of another runtime are only shown.
# Everything is kept under target/conformance; the output of each test is in logs/WORLD-SUITE there.
set -euo pipefail
cd "$(dirname "$0")/.."
rooms=scripts/conformance
kept=$PWD/target/conformance

usage() { sed -n '2,17s/^# \{0,1\}//p' "$0" >&2; exit 2; }

runtime='' world=native suites=() inside=
while [ $# -gt 0 ]; do
    case $1 in
    --suite) suites+=("${2:?}"); shift 2 ;;
    --world) world=${2:?}; shift 2 ;;
    --inside) inside=1; shift ;;
    -*) usage ;;
    *) [ -z "$runtime" ] || usage; runtime=$1; shift ;;
    esac
done
[ ${#suites[@]} -gt 0 ] || suites=(runtime-tools runc-1.1.5 schema)
case $world in native | v2 | lab) ;; *) usage ;; esac
[ "$(id -u)" = 0 ] || { echo "conformance.sh: needs root: the suites make containers" >&2; exit 2; }
if [ -z "$runtime" ]; then
    . scripts/toolchain.sh
    runtime=$(built onggi --bin onggi)
fi
runtime=$(realpath "$(command -v "$runtime")") || { echo "conformance.sh: no such runtime" >&2; exit 2; }
mkdir -p "$kept"

# the lab has one processor, and its system calls are ten times as slow
most=2400
[ "$world" != lab ] || most=6000

# suite NAME: prints its results, one line per test. The time limit keeps a test that hangs from hanging the run.
suite() {
    export RUNTIME=$runtime LOGS=$kept/logs/$world-$1
    case $1 in
    runtime-tools) WORK=$kept/runtime-tools timeout -k 9 900 $rooms/runtime-tools.sh ;;
    runc-*) WORK=$kept/runc RUNC_VERSION=${1#runc-} timeout -k 9 "$most" $rooms/runc-bats.sh ;;
    schema) WORK=$kept/schema timeout -k 9 300 $rooms/schema.sh ;;
    *) usage ;;
    esac
}

# fetch and build here: it is the same for every world, and not every world has a network
if [ -z "$inside" ]; then
    for name in "${suites[@]}"; do BUILD_ONLY=1 suite "$name" >&2; done
    # without a CRIU that works on this kernel the suites skip checkpoint and restore, or fail with every runtime
    case " ${suites[*]}" in *' runc-'*) criu=$(scripts/criu.sh) && export PATH="$criu:$PATH" ;; esac
    again=("$PWD/scripts/conformance.sh" "$runtime" --world "$world" --inside)
    for name in "${suites[@]}"; do again+=(--suite "$name"); done
    # leftovers of failing tests disappear with these namespaces
    private=(unshare -m -p --fork --kill-child --mount-proc --propagation private)
    # shellcheck disable=SC2016 # the inner shell's own arguments
    only_v2=(sh -c 'umount -R /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec "$@"' sh)
    case $world in
    native) exec "${private[@]}" "${again[@]}" ;;
    v2) exec "${private[@]}" "${only_v2[@]}" "${again[@]}" ;;
    lab) LAB_MEM=${LAB_MEM:-4G} LAB_TIMEOUT=${LAB_TIMEOUT:-9000} exec scripts/lab.sh "${again[@]}" ;;
    esac
fi

judged=()
"$runtime" --version | grep -q '^onggi ' || judged=(--peer)
# runc's tests create directories next to the v1 hierarchies
beside() { [ "$(stat -f -c %T /sys/fs/cgroup)" = cgroup2fs ] || find /sys/fs/cgroup -mindepth 1 -maxdepth 1; }
before=$(beside)
status=0
for name in "${suites[@]}"; do
    suite "$name" | python3 $rooms/judge.py "${judged[@]}" "$name" "$world" $rooms/known-"$name".txt || status=1
done
{ beside | grep -vxF "$before" || true; } | while IFS= read -r new; do
    mountpoint -q "$new" || find "$new" -depth -type d -exec rmdir {} +
done
exit $status
