#!/bin/sh
# check.sh: all checks of this tree that need no container and no privileges. Takes less than a minute once everything is built.
#
#   fmt       cargo fmt --check
#   clippy    with warnings denied, all targets
#   doc       the documentation, public and private, with warnings denied; examples in it compile and run
#   layers    which module may use which (scripts/check/layers.py)
#   budgets   sizes of files and functions (scripts/check/budgets.py; `--exempt` lists what is exempt and why)
#   words     unfinished code, unsafe outside its modules, allocation in init, meaningless names (scripts/check/words.py)
#   spec      each test that tests/spec.md names exists (scripts/check/spec.py)
#   attacks   each published attack has a test (scripts/check/attacks.py, tests/attacks.md)
#   goldens   each bundles/*/plan.txt is the bundle's plan (a unit test; ONGGI_BLESS=1 cargo test goldens rewrites them)
#   shell     shellcheck, where it is installed
#   deny      licences, sources and duplicates of dependencies (deny.toml): cargo-deny, where it is installed
#
# With names as arguments only those checks run. Prints one line per check, after the output of a failed one.
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

# a filter that matches no test would pass
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
