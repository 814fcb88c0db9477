#!/bin/bash
# test.sh: everything that must pass before a change is done. As root on Debian or Ubuntu with a Rust toolchain.
#
# Installs what the tests need, then runs scripts/check.sh, `cargo test` (unit, golden, seccomp and integration tests) in the cgroup mode
# of this machine, and the integration tests in a private view with only cgroup2 mounted; then injected faults (scripts/faults.sh), other
# builds, fuzzing, other projects' suites (scripts/conformance.sh) and real engines (scripts/engines.sh). In parallel with these the whole
# integration suite runs in User Mode Linux (scripts/lab.sh), which has all controllers of cgroup v2, and then the cgroup tests in every
# cgroup layout (scripts/cgroups.sh). Prints the closing line and the duration of every part. Fails if a test failed, was ignored, or could
# run in none of these layouts (scripts/check/ran.py).
#
#   --quick   only scripts/check.sh and `cargo test`: three minutes where everything is built
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

packages=(
    gcc libc6-dev  # links the runtime and the tests' payload
    python3        # scripts/check
    shellcheck     # scripts/check.sh
    busybox-static # scripts/rootfs.sh
    procps         # the verb ps
    iproute2       # creates network devices to be moved
    strace         # shows how init is cloned
    uidmap         # ranges of ids for users without privileges
    iptables       # CRIU locks the network with it while it saves connections
    libseccomp-dev # our seccomp programs are compared with libseccomp's
    wget e2fsprogs debian-archive-keyring # scripts/lab.sh builds an image with systemd
)

quick=
case "${1:-}" in
"") ;;
--quick) quick=1 ;;
*) sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
[ "$(id -u)" = 0 ] || { echo "test.sh: needs root: the integration tests make containers" >&2; exit 1; }
. scripts/toolchain.sh
need "${packages[@]}" || exit 1
# for checkpoint and restore; not every distribution's CRIU works on this kernel
criu=$(scripts/criu.sh) || exit 1
export PATH="$criu:$PATH"

logs=target/logs
mkdir -p $logs
rm -f $logs/*.log $logs/*.ended
closing=() failed=0

# judge NAME STATUS LOG SECONDS: collects the closing lines of a part
judge() {
    local name=$1 status=$2 log=$3 took=$4 line ran=0
    while IFS= read -r line; do
        [[ $line == *"ok. 0 passed; 0 failed; 0 ignored;"* ]] && continue # a target without tests
        closing+=("$name: $line")
        case $line in
        *"test result: "*) [[ $line == *"; 0 ignored;"* ]] || status=1 ;;
        esac
        ran=1
    done < <(grep -E '^(test result: |check: |[0-9]+ passed|[0-9]+ builds, |[0-9]+ runs, |[0-9]+ injected, )' "$log")
    [ $ran = 1 ] || { closing+=("$name: nothing ran"); status=1; }
    [ "$status" = 0 ] || { closing+=("$name: FAILED"); failed=1; }
    closing+=("$name: $took s")
}

# part NAME COMMAND...: shows its output and collects its closing lines
part() {
    local name=$1 begin=$SECONDS log="$logs/$1.log"
    shift
    echo "== $name"
    "$@" 2>&1 | tee "$log"
    judge "$name" $? "$log" $((SECONDS - begin))
}

finish() {
    echo
    printf '%s\n' "${closing[@]}"
    [ $failed = 0 ] && echo "test.sh: all passed" || echo "test.sh: FAILED"
    exit $failed
}

part check scripts/check.sh
part "cargo test" cargo test --no-fail-fast
[ -z "$quick" ] || finish
if [ "$(stat -f -c %T /sys/fs/cgroup)" = cgroup2fs ]; then
    closing+=("this machine is pure cgroup v2: the run above is the v2 run")
else
    part "integration, cgroup v2 view" env ONGGI_CGROUP=v2 cargo test --test integration
fi

# a system call that fails or is the last one, callers that meet, something that does not answer: a sample
part faults scripts/faults.sh --quick
part "start path" scripts/bench.sh guard --rounds 30 --only onggi,floor
# in the background, since User Mode Linux uses only one processor: the whole suite on its kernel, which has all controllers of cgroup v2, then
# the cgroup tests in every world (systemd, cgroup v1)
program=$(test_program --test integration) || exit 1
aside() {
    local begin=$SECONDS
    # starts are slow there, so skip attacks that take hundreds of them; attacks::held, which checks the same descriptors, runs in both
    LAB_MEM=6G LAB_TIMEOUT=3000 scripts/lab.sh env ONGGI_TEST_SLOW=1 "$program" --test-threads 4 --skip attacks::descriptors \
        --skip attacks::races --skip attacks::links --skip attacks::masks > "$logs/integration, lab.log" 2>&1
    echo "$? $((SECONDS - begin))" > "$logs/integration, lab.ended"
    begin=$SECONDS
    scripts/cgroups.sh > "$logs/cgroups, every world.log" 2>&1
    echo "$? $((SECONDS - begin))" > "$logs/cgroups, every world.ended"
}
set -m # a process group of its own, to end it whole
aside < /dev/null &
aside=$!
set +m
trap 'kill -- -$aside 2> /dev/null' EXIT

# races of directories that are exchanged with symlinks, with many rounds
part "races" env ONGGI_TEST_RUNS=500 cargo test --test integration -- attacks::races
# as with a packager's RUSTFLAGS
part "other builds" scripts/other-builds.sh pie
part "oldest toolchain" scripts/oldest-toolchain.sh
part fuzz scripts/fuzz.sh --seconds 6
part conformance scripts/conformance.sh
part engines scripts/engines.sh

wait $aside
trap - EXIT
for name in "integration, lab" "cgroups, every world"; do
    echo "== $name"
    cat "$logs/$name.log"
    read -r status took < "$logs/$name.ended"
    judge "$name" "${status:-1}" "$logs/$name.log" "${took:-0}"
done

part "every test ran" python3 scripts/check/ran.py "$logs"/*.log
finish
