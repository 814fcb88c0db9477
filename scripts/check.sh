#!/bin/sh
# check.sh: everything about this tree that a machine can check without running a container. No privileges, under a minute when warm.
#
#   fmt       cargo fmt --check
#   clippy    with warnings denied, all targets
#   doc       the documentation, of what is public and of all, with warnings denied; the examples in it compile and run
#   layers    who may use whom (scripts/check/layers.py)
#   budgets   sizes of files and functions (scripts/check/budgets.py; `--exempt` lists what is exempt and why)
#   words     loose ends, unsafe outside its rooms, allocation in init, empty names (scripts/check/words.py)
#   spec      each proof that tests/spec.md names is there (scripts/check/spec.py)
#   attacks   each published attack has a test that makes its move (scripts/check/attacks.py, tests/attacks.md)
#   goldens   each bundles/*/plan.txt is the bundle's plan (a unit test; ONGGI_BLESS=1 cargo test goldens writes them anew)
#   shell     shellcheck, where it is installed
#   deny      licences, sources and doubles of what comes from others (deny.toml): cargo-deny, where it is installed
#
# With names as arguments only those run. Prints one line per check; the output of a failing one stands above its line.
set -u
cd "$(dirname "$0")/.." || exit 1
. scripts/toolchain.sh
export PYTHONDONTWRITEBYTECODE=1

fmt() { cargo fmt --check; }
clippy() { cargo clippy --quiet --all-targets -- -D warnings; }
doc() {
    RUSTDOCFLAGS="-D warnings" cargo doc --quiet --no-deps &&
        RUSTDOCFLAGS="-D warnings" cargo doc --quiet --no-deps --lib --document-private-items &&
        cargo test --quiet --doc 2>&1 | grep -q 'ok. [1-9]'
}
layers() { python3 scripts/check/layers.py; }
budgets() { python3 scripts/check/budgets.py; }
words() { python3 scripts/check/words.py; }
spec() { python3 scripts/check/spec.py; }
attacks() { python3 scripts/check/attacks.py; }

# a filter that fits no test would pass
goldens() { cargo test --lib plan::goldens 2>&1 | tee target/goldens.log | grep -q 'ok. [1-9]' || { cat target/goldens.log; return 1; }; }

shell() {
    command -v shellcheck >/dev/null || { echo "shellcheck is not installed: skipped"; return 0; }
    git ls-files -z '*.sh' .ci/run | xargs -0 shellcheck -x -S warning
}

deny() {
    command -v cargo-deny >/dev/null || { echo "cargo-deny is not installed (cargo install cargo-deny): skipped"; return 0; }
    cargo deny --offline --log-level error check licenses bans sources
}

failed=0
[ $# -gt 0 ] || set -- fmt clippy doc layers budgets words spec attacks goldens shell deny
for check; do
    if output=$($check 2>&1); then
        echo "ok    $check${output:+ ($output)}"
    else
        printf '%s\n' "$output"
        echo "FAIL  $check"
        failed=$((failed + 1))
    fi
done
[ $failed = 0 ] && echo "check: all passed" || echo "check: $failed failed"
exit $failed
