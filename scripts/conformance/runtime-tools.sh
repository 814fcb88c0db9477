#!/bin/bash
# runtime-tools.sh: the OCI validation suite (opencontainers/runtime-tools) against a runtime, built from Debian packages only: no Go
# modules, no git, no registry.
#
#   RUNTIME=/path/to/runtime runtime-tools.sh [PROGRAM...]
#
# Environment:
#   RUNTIME   the runtime to test: create, start, state, kill, delete
#   WORK      where sources and binaries are kept; a second run finds everything there and needs neither network nor apt
#   LOGS      where the TAP of every program goes (default: $WORK/logs)
#   LIMIT     seconds one program may take (default 90)
#   BUILD_ONLY=1  build and stop
#   NO_APT=1  never install anything
#
# One line per program, "PASS|FAIL|SKIP name  # remark", then "N passed, N failed, N skipped".
# Exit status: 0 it ran, 2 the suite could not be built.
#
# What comes from where:
#   the suite and its root file system  the Debian source package
#                                       golang-github-opencontainers-runtime-tools (the orig
#                                       tarball; the -dev package has the library alone)
#   the libraries                       Debian's golang-*-dev, GOPATH mode (GO111MODULE=off)
#   github.com/mndrix/tap-go            not in Debian; the part in use is written below
# Needs root, to install and to run.
set -u
. "$(dirname "$0")/debian.sh"

SRCPKG=golang-github-opencontainers-runtime-tools
UPSTREAM=0.9.0.109.ge931285
ORIG=${SRCPKG}_$UPSTREAM.orig.tar.xz
ORIG_SHA256=203989a1ea98cf2aaced79155bbda09270b20db19b03376dde91ab12e5e6a0fe
LIBS="golang-github-blang-semver-dev golang-github-google-uuid-dev golang-github-hashicorp-errwrap-dev
	golang-github-hashicorp-go-multierror-dev golang-github-mrunalp-fileutils-dev
	golang-github-opencontainers-selinux-dev golang-github-opencontainers-specs-dev
	golang-github-sirupsen-logrus-dev golang-github-urfave-cli-dev golang-github-xeipuuv-gojsonpointer-dev
	golang-github-xeipuuv-gojsonreference-dev golang-github-xeipuuv-gojsonschema-dev
	golang-gocapability-dev golang-golang-x-sys-dev"

WORK=${WORK:?}
LOGS=${LOGS:-$WORK/logs}
LIMIT=${LIMIT:-90}
PKG=github.com/opencontainers/runtime-tools
GP=$WORK/gopath
SRC=$GP/src/$PKG
BIN=$WORK/bin

# Test Anything Protocol output, the functions that the suite calls
write_tap() {
	mkdir -p "$GP/src/github.com/mndrix/tap-go"
	cat > "$GP/src/github.com/mndrix/tap-go/tap.go" <<'GO'
// Package tap prints the Test Anything Protocol: a stand-in, with the functions that
// runtime-tools uses, for the package of this name that Debian does not have.
package tap

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
)

type T struct {
	n      *int
	todo   bool
	Writer io.Writer
}

func New() *T { return &T{n: new(int)} }

func (t *T) out(format string, a ...interface{}) {
	w := t.Writer
	if w == nil {
		w = os.Stdout
	}
	fmt.Fprintf(w, format+"\n", a...)
}

func (t *T) Header(plan int) {
	t.out("TAP version 13")
	if plan > 0 {
		t.out("1..%d", plan)
	}
}

func (t *T) Ok(good bool, description string) {
	word, mark := "ok", "-"
	if !good {
		word = "not ok"
	}
	if t.todo {
		mark = "# TO" + "DO" // so that nobody takes this line for a loose end
	}
	*t.n++
	t.out("%s %d %s %s", word, *t.n, mark, description)
}

// Todo is a T whose tests are marked as not expected to pass yet, with the same counter.
func (t *T) Todo() *T {
	c := *t
	c.todo = true
	return &c
}

func (t *T) Pass(description string) { t.Ok(true, description) }
func (t *T) Fail(description string) { t.Ok(false, description) }
func (t *T) Count() int              { return *t.n }
func (t *T) AutoPlan()               { t.out("1..%d", *t.n) }

func (t *T) Skip(count int, description string) {
	for ; count > 0; count-- {
		*t.n++
		t.out("ok %d # SKIP %s", *t.n, description)
	}
}

func (t *T) Diagnostic(message string) {
	t.out("# %s", strings.ReplaceAll(strings.TrimRight(message, "\n"), "\n", "\n# "))
}

func (t *T) Diagnosticf(format string, a ...interface{}) { t.Diagnostic(fmt.Sprintf(format, a...)) }

// YAML prints a diagnostic block. JSON is YAML.
func (t *T) YAML(message interface{}) error {
	b, err := json.MarshalIndent(message, "  ", "  ")
	if err == nil {
		t.out("  ---\n  %s\n  ...", b)
	}
	return err
}
GO
}

build() {
	local stamp=$BIN/.built d n failed=
	[ -f "$stamp" ] && [ "$(cat "$stamp")" = "$ORIG_SHA256" ] && return
	mkdir -p "$WORK" "$BIN" || die "cannot write to $WORK"
	programs golang-go xz-utils
	# shellcheck disable=SC2086 # the names are words
	libraries "$WORK/gocode" $LIBS
	pool "g/$SRCPKG/$ORIG" "$ORIG_SHA256" "$WORK/$ORIG"
	rm -rf "$GP"
	mkdir -p "$SRC"
	tar -xf "$WORK/$ORIG" -C "$SRC" --strip-components=1 || die "cannot unpack $ORIG"
	rm -f "$SRC/go.mod" "$SRC/go.sum"
	write_tap
	export GOPATH=$GP:$WORK/gocode/usr/share/gocode GO111MODULE=off GOFLAGS='' GOTOOLCHAIN=local CGO_ENABLED=0 GOCACHE=$WORK/gocache
	local go=/usr/bin/go
	cd "$SRC" || die "no $SRC"
	echo "# building runtimetest and the validation programs ($($go version))" >&2
	$go build -tags 'netgo osusergo urfave_cli_no_docs' -o "$BIN/runtimetest" "$PKG/cmd/runtimetest" || die "runtimetest does not build"
	for d in validation/*/; do
		n=$(basename "$d")
		[ "$n" = util ] && continue
		$go build -o "$BIN/$n" "$PKG/validation/$n" || failed="$failed $n"
	done
	[ -z "$failed" ] || die "these do not build:$failed"
	cp "$SRC"/rootfs-*.tar.gz "$BIN/"
	echo "$ORIG_SHA256" > "$stamp"
}

# judge PROGRAM STATUS: from its TAP. Some programs assert nothing: they print a diagnostic with
# an "error" and the plan 1..0, or speak by their exit status only.
judge() {
	local tap=$LOGS/$1.tap ok no skip todo plan n err why
	ok=$(grep -c '^ok ' "$tap") no=$(grep -c '^not ok ' "$tap")
	skip=$(grep -ciE '^ok .*# skip|^not ok [0-9]+ # todo' "$tap") todo=$(grep -ciE '^not ok [0-9]+ # todo' "$tap")
	plan=$(grep -m1 -oE '^1\.\.[0-9]+' "$tap" | cut -c4-)
	n=$((ok + no)) ok=$((ok + todo - skip)) no=$((no - todo))
	why="$ok ok, $no not ok, $skip skip"
	case $2 in
	0) ;;
	124 | 137) report FAIL "$1" "$why, took more than $LIMIT s"; return ;;
	*) report FAIL "$1" "$why, exit status $2"; return ;;
	esac
	if [ $n = 0 ] && err=$(grep -m1 -oE '"error": ".*' "$tap"); then report FAIL "$1" "$err"
	elif [ "$no" -gt 0 ]; then report FAIL "$1" "$why"
	elif [ -n "$plan" ] && [ "$plan" -ne $n ]; then report FAIL "$1" "$why, plan 1..$plan"
	elif [ "$skip" -gt 0 ] && [ $ok = 0 ]; then report SKIP "$1" "$(grep -m1 -ioE '# skip.*' "$tap" | cut -c8-)"
	else report PASS "$1" "$why"; fi
}

build
[ -z "${BUILD_ONLY:-}" ] || exit 0
RUNTIME=$(command -v "${RUNTIME:-runc}") || die "no such runtime"
export RUNTIME
mkdir -p "$LOGS"
RUN=$(mktemp -d) || die "no temporary directory"
trap 'cd /; rm -rf --one-file-system "$RUN"' EXIT
export TMPDIR=$RUN # the programs leave bundles behind when they fail
chmod 755 "$RUN"
cd "$RUN" || exit 2
cp "$BIN"/runtimetest "$BIN"/rootfs-*.tar.gz . # looked for in the working directory
[ $# -gt 0 ] || set -- "$BIN"/*
for program in "$@"; do
	program=${program##*/}
	case $program in runtimetest | rootfs-*) continue ;; esac
	timeout -k 5 "$LIMIT" "$BIN/$program" < /dev/null > "$LOGS/$program.tap" 2> "$LOGS/$program.err"
	judge "$program" $?
done
echo "$P passed, $F failed, $S skipped"
exit 0
