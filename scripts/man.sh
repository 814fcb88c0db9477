#!/bin/sh
# man.sh [DIRECTORY]: writes the manual pages onggi.8, onggi-run.8, ... into DIRECTORY (default: target/man). They are made from
# the tables of the command line (src/cli/table.rs), as the help is.
set -eu
cd "$(dirname "$0")/.."
. scripts/toolchain.sh
directory=${1:-target/man}
cargo run --quiet --example man -- "$directory"
echo "$directory: $(find "$directory" -name '*.8' | wc -l) manual pages"
