#!/bin/bash
# faults.sh [--quick] [--view native|v2] [RUNTIME] [PART...]: whether what the runtime says is true, under faults, kills and races.
#
#   sweep    each system call of each verb fails once, and the runtime is killed there once: whole bundles and verbs
#   pairs    what the runtime does about a failed launch fails in turn
#   races    each verb stands still at each system call while somebody else deletes the container, or replaces it
#   hangs    something does not answer: hooks, sockets, file systems, frozen and stopped processes
#   hammer   sixteen callers of one id for 60 s, and 1000 containers alive, made and deleted 32 at once
#
# Without names all parts run, which takes hours. --quick: a sample of each in some two minutes, always the same one, so that a failure belongs
# to the change; ONGGI_FAULTS_OFFSET=N draws another. Everything happens in mount and pid namespaces of its own, below cgroups of its own.
# RUNTIME: by default the debug build of this tree. `scripts/faults/*.py --help` explains more. Last line: `N injected, N clean, N failed`; status 1 if any failed.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
export PYTHONDONTWRITEBYTECODE=1
[ "$(id -u)" = 0 ] || { echo "faults.sh: needs root: it makes containers" >&2; exit 1; }

quick='' view=native runtime='' parts=()
while [ $# -gt 0 ]; do
    case $1 in
    --quick) quick=1 ;;
    --view) view=$2 && shift ;;
    sweep | pairs | races | hangs | hammer) parts+=("$1") ;;
    -*) sed -n 2,13p "$0" && exit 2 ;;
    *) runtime=$1 ;;
    esac
    shift
done
[ ${#parts[@]} -gt 0 ] || parts=(sweep pairs races hangs hammer)
if [ -z "$runtime" ]; then
    . scripts/toolchain.sh
    runtime=$(cargo build --message-format json 2>/dev/null | sed -n 's/.*"executable":"\([^"]*\/onggi\)".*/\1/p' | tail -n 1)
    [ -n "$runtime" ] || { echo "faults.sh: cargo build failed" >&2; exit 1; }
fi

log=$(mktemp) && trap 'rm -f "$log"' EXIT
injected=0 clean=0 failed=0

# fault PROGRAM ARG...: one part; its last line is added to ours
fault() {
    local program=$1 line
    shift
    echo "== $program $*"
    python3 "scripts/faults/$program" "$runtime" --view "$view" "$@" 2>&1 | tee "$log" | sed 's/^\([0-9]* injected\)/# \1/'
    line=$(grep -E '^[0-9]+ injected, [0-9]+ clean, [0-9]+ failed$' "$log" | tail -n 1)
    [ -n "$line" ] || line="1 injected, 0 clean, 1 failed" # it broke down
    read -r one _ two _ three _ <<<"$line"
    injected=$((injected + one)) clean=$((clean + two)) failed=$((failed + three))
}

offset=${ONGGI_FAULTS_OFFSET:-3}
for part in "${parts[@]}"; do
    case $part$quick in
    sweep) fault sweep.py --eintr ;;
    sweep1) fault sweep.py --bundles spec --verbs run-detached,create,start,delete-force,exec-detached --sample 24 --offset "$offset" ;;
    pairs) fault sweep.py --pairs --verbs run,run-detached,create --bundles spec,userns,hooks ;;
    pairs1) fault sweep.py --pairs --verbs run --bundles spec --sample 16 --offset "$offset" ;;
    races) fault sweep.py --races --verbs run,run-detached,create,start,exec,kill,delete,delete-force --bundles spec,hooks ;;
    races1) fault sweep.py --races --verbs run-detached,delete-force --bundles spec --sample 48 --offset "$offset" ;;
    hangs) fault hangs.py ;;
    hangs1) fault hangs.py hook_inside stopped ;;
    hammer) fault hammer.py --seconds 60 --alive 1000 ;;
    hammer1) fault hammer.py --seconds 10 --alive 50 ;;
    esac
done
echo "$injected injected, $clean clean, $failed failed"
[ $failed = 0 ]
