# toolchain.sh: sourced by the scripts that build: finds cargo, installs packages, and prints paths of built programs.
# shellcheck shell=sh

# under sudo the toolchain is often the calling user's
if ! command -v cargo >/dev/null && [ -n "${SUDO_USER:-}" ]; then
    caller=$(getent passwd "$SUDO_USER" | cut -d: -f6)
    export PATH="$caller/.cargo/bin:$PATH" CARGO_HOME="${CARGO_HOME:-$caller/.cargo}" RUSTUP_HOME="${RUSTUP_HOME:-$caller/.rustup}"
fi
if ! command -v cargo >/dev/null; then
    echo "$0: there is no cargo on PATH: install a Rust toolchain first" >&2
    exit 1
fi

# Before main glibc executes some eighty cpuid instructions, each of which exits a virtual machine: half a millisecond of every
# start (scripts/bench/NOTES.md). musl does not. So these scripts build with musl if the toolchain has it or rustup can get it,
# otherwise with glibc, which also works. CARGO_BUILD_TARGET overrides this.
if [ -z "${CARGO_BUILD_TARGET:-}" ]; then
    musl=$(uname -m)-unknown-linux-musl
    has_musl() { [ -d "$(rustc --print sysroot)/lib/rustlib/$musl/lib" ]; }
    if has_musl || { command -v rustup && rustup target add "$musl" && has_musl; } >/dev/null 2>&1; then
        export CARGO_BUILD_TARGET="$musl"
    else
        echo "there is no Rust library for $musl: building with glibc, which starts about 0.5 ms later on virtual machines" >&2
    fi
fi

# need PACKAGE...: installs missing packages with apt, and says so
need() {
    missing=
    for package; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    echo "installing$missing"
    # shellcheck disable=SC2086 # the names are words
    apt-get install -qq -y --no-install-recommends $missing >/dev/null 2>&1 || {
        apt-get update -qq && apt-get install -qq -y --no-install-recommends $missing >/dev/null
    } || {
        echo "$0: could not install$missing" >&2
        return 1
    }
}

# built NAME CARGO-ARGUMENT...: builds the program NAME and prints its path, since the target directory can be configured
built() {
    name=$1
    shift
    found=$(cargo build "$@" --message-format json-render-diagnostics |
        sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | grep "/$name\$") || {
        echo "$0: cargo did not build $name" >&2
        return 1
    }
    echo "$found"
}

# test_program ARGUMENT...: builds the test program that the arguments select and prints its path
test_program() {
    found=$(cargo test "$@" --no-run --message-format json-render-diagnostics |
        sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | grep '/deps/') || {
        echo "$0: cargo did not build the test program" >&2
        return 1
    }
    echo "$found"
}
