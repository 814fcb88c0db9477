#!/bin/bash
# run.sh [SECONDS] [TARGET]...: builds the fuzz targets with the stable toolchain (coverage from LLVM, without a sanitizer) and runs each.
#
# Needs cargo and a C++ compiler, for libFuzzer; `cargo +nightly fuzz run TARGET fuzz/corpus/TARGET fuzz/seeds/TARGET` does the same with a
# sanitizer. Inputs to begin with are in fuzz/seeds, new ones are kept in fuzz/corpus, failing ones in fuzz/artifacts. Without a target: all.
# Prints a line a target, and `N runs, N clean, N failed` at the end: runs of a target until it failed.
set -uo pipefail
cd "$(dirname "$0")" || exit 1
seconds=${1:-60}
shift
# shellcheck disable=SC2046 # names are words
[ $# -gt 0 ] || set -- $(sed -n 's|^path = "fuzz_targets/\(.*\)\.rs"|\1|p' Cargo.toml)
command -v c++ > /dev/null || { echo "fuzz/run.sh: there is no C++ compiler: install g++" >&2; exit 1; }
export RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
-Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=16 --cfg fuzzing"
made=$(cargo build --release --bins --message-format=json-render-diagnostics | sed -n 's|.*"executable":"\([^"]*\)".*|\1|p') || exit 1
runs=0 failed=0
for target; do
    bin=$(grep "/$target\$" <<< "$made") || { echo "fuzz/run.sh: there is no target named $target" >&2; exit 2; }
    mkdir -p "corpus/$target" "artifacts/$target"
    seeds=()
    [ -d "seeds/$target" ] && seeds=("seeds/$target")
    said=$("$bin" -max_total_time="$seconds" -max_len=16384 -timeout=10 -rss_limit_mb=1024 -print_final_stats=1 \
        -artifact_prefix="artifacts/$target/" "corpus/$target" "${seeds[@]}" 2>&1)
    status=$?
    count=$(sed -n 's/^stat::number_of_executed_units: *//p' <<< "$said")
    if [ $status = 0 ] && [ -n "$count" ]; then
        echo "$target: $count runs in $seconds s"
    else
        printf '%s\n' "$said" | tail -40
        echo "$target: FAILED"
        failed=$((failed + 1))
    fi
    runs=$((runs + ${count:-1}))
done
echo "$runs runs, $((runs - failed)) clean, $failed failed"
[ $failed = 0 ]
