#!/bin/bash
# run.sh [SECONDS] [TARGET]: builds a fuzz target with the stable toolchain (coverage from LLVM, without a sanitizer) and runs it.
# Needs cargo and a C++ compiler, for libFuzzer. New inputs are kept in fuzz/corpus, failing ones in fuzz/artifacts.
set -euo pipefail
cd "$(dirname "$0")"
seconds=${1:-60} target=${2:-seccomp_profile}
export RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
-Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 --cfg fuzzing"
bin=$(cargo build --release --bin "$target" --message-format=json |
  sed -n "s|.*\"executable\":\"\([^\"]*/$target\)\".*|\1|p")
mkdir -p "corpus/$target" "artifacts/$target"
exec "$bin" -max_total_time="$seconds" -max_len=4096 -artifact_prefix="artifacts/$target/" "corpus/$target"
