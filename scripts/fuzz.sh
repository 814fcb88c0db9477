#!/bin/bash
# fuzz.sh [--seconds N]: runs the fuzz targets (fuzz/run.sh), N seconds each, and changed configurations with the real runtime
# (scripts/fuzz-run.py), three times as long. As root. The default of 20 seconds finds only obvious faults of a change.
#
# Prints the result of each, and fails if one found a fault or could not run.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
seconds=20
case ${1:-} in
--seconds) seconds=$2 ;;
'') ;;
*) sed -n 2,3p "$0"; exit 2 ;;
esac
. scripts/toolchain.sh
need g++ busybox-static || exit 1

failed=0
# libFuzzer needs the machine's C++ library
(unset CARGO_BUILD_TARGET; fuzz/run.sh "$seconds") || failed=1
# a debug build: it checks its arithmetic, and that init allocates nothing
runtime=$(built onggi --bin onggi) || exit 1
scripts/fuzz-run.py "$runtime" --seconds $((3 * seconds)) fuzz/seeds/config || failed=1
exit $failed
