#!/bin/bash
# other-builds.sh [BUILD]...: the runtime as others may build it, with flags that are not those of .cargo/config.toml, under the tests of
# how init is born and of the attacks on the runtime's own binary. As root.
#
#   pie         what RUSTFLAGS in the environment makes: a dynamic, position-independent program with glibc
#   pie-bfd     the same, linked by GNU ld
#   dynamic     dynamic, at a fixed address
#   static-pie  static, position-independent
#   bfd         static, at a fixed address, linked by GNU ld: its program headers do not say where they are
#   separate    the same with code in pages of its own, and without constants that are protected after relocation
#   large       pie for pages of 2 MiB
#   writable    code and data in one segment that may be written to (ld -N)
#
# Without arguments: all of them, in debug builds that share their dependencies under target/other-builds. The first takes two minutes on two
# processors, each other one ten seconds; the tests take twenty seconds a build. Prints a line a build, and `N builds, N passed` at the end.
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

# build NAME: prints where the program is. The flags are those of the program alone: what it is made of is compiled as cargo does by itself
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
    # a filter that fits no test would pass
    verdict=$(grep '^test result: ' <<< "$said")
    case $verdict in
    *" 0 passed;"*) status=1 ;;
    esac
    [ $status = 0 ] && passed=$((passed + 1))
    echo "$name: ${verdict:-no tests ran}"
done
echo "$count builds, $passed passed"
[ $count = $passed ]
