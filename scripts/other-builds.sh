#!/bin/bash
# other-builds.sh [BUILD]...: builds the runtime with other flags than those of .cargo/config.toml, as packagers may, and runs the tests of
# how init is cloned, of the attacks, and of the protection of the runtime's own binary. As root.
#
#   pie         what RUSTFLAGS in the environment produces: a dynamic, position-independent program with glibc
#   pie-bfd     the same, linked by GNU ld
#   dynamic     dynamic, at a fixed address
#   static-pie  static, position-independent
#   bfd         static, at a fixed address, linked by GNU ld: it has no PT_PHDR header
#   separate    the same with code in separate pages (-z separate-code) and without RELRO
#   large       pie for pages of 2 MiB
#   writable    code and data in one writable segment (ld -N)
#
# Without arguments it makes all of them, as debug builds that share their dependencies under target/other-builds. The first takes two
# minutes on two processors, each other one ten seconds; the tests take twenty seconds per build. Prints one line per build, then
# `N builds, N passed`.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
export CARGO_BUILD_TARGET
CARGO_BUILD_TARGET=$(rustc -vV | sed -n 's/^host: //p')
. scripts/toolchain.sh

tests=(attacks clone binary exec_security)
fixed="-C relocation-model=static" static="-C target-feature=+crt-static" bfd="-C link-arg=-fuse-ld=bfd"
declare -A flags=(
    [pie]=""
    [pie-bfd]="$bfd"
    [dynamic]="$fixed"
    [static-pie]="$static"
    [bfd]="$static $fixed $bfd"
    [separate]="$static $fixed $bfd -C link-arg=-Wl,-z,separate-code,-z,norelro"
    [large]="-C link-arg=-Wl,-z,max-page-size=0x200000"
    [writable]="$static $fixed -C link-arg=-Wl,-N"
)
[ $# -gt 0 ] || set -- pie pie-bfd dynamic static-pie bfd separate large writable

# build NAME: builds the program and prints its path. The flags apply to the program alone; dependencies are compiled with cargo's defaults
build() {
    local made
    # shellcheck disable=SC2086 # flags are words
    made=$(RUSTFLAGS="" CARGO_TARGET_DIR=target/other-builds cargo rustc --quiet --bin onggi --message-format json-render-diagnostics \
        -- ${flags[$1]} | sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | grep '/onggi$') || return 1
    cp "$made" "target/other-builds/onggi-$1" && echo "$PWD/target/other-builds/onggi-$1"
}

program=$(test_program --test integration) || exit 1
count=0 passed=0
for name; do
    [ -n "${flags[$name]+there}" ] || { echo "other-builds.sh: there is no build named $name" >&2; exit 2; }
    count=$((count + 1))
    runtime=$(build "$name") || { echo "$name: not built"; continue; }
    said=$(ONGGI_RUNTIME=$runtime "$program" "${tests[@]/%/::}" 2>&1)
    status=$?
    [ $status = 0 ] || printf '%s\n' "$said"
    # a filter that matches no test would pass
    verdict=$(grep '^test result: ' <<< "$said")
    case $verdict in
    *" 0 passed;"*) status=1 ;;
    esac
    [ $status = 0 ] && passed=$((passed + 1))
    echo "$name: ${verdict:-no tests ran}"
done
echo "$count builds, $passed passed"
[ $count = $passed ]
