#!/bin/bash
# criu.sh: prints a directory with a `criu` that works on this kernel, for the tests' PATH. As root on Debian or Ubuntu.
#
# Uses the machine's, or installs the distribution's package. If that is too old for the kernel (bookworm's 3.17 does not know the vdso of
# 6.18), it unpacks a newer Debian suite's with its own libraries under target/criu, without installing it or changing the machine's apt.
# Prints on standard error what it did; fails if none works.
set -eu -o pipefail
cd "$(dirname "$0")/.."
. scripts/mirror.sh
own=${CARGO_TARGET_DIR:-$PWD/target}/criu

die() { echo "criu.sh: $*" >&2; exit 1; }

# CRIU's own check of this kernel
works() { [ -x "$1" ] && "$1" check >/dev/null 2>&1; }

# unpack SUITE: fetches and unpacks criu with all of its dependencies
unpack() {
    local suite=$1 state=$own/$1 uri loader root=$own/root
    uri=$(mirror)
    [ -n "$uri" ] || die "no Debian mirror in this machine's apt sources"
    rm -rf "$own"
    mkdir -p "$state/lists/partial" "$state/archives/partial" "$own/bin"
    : > "$state/status"
    printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\nSigned-By: %s\n' "$uri" "$suite" \
        /usr/share/keyrings/debian-archive-keyring.gpg > "$state/suite.sources"
    local options=(-qq -o Dir::Etc::SourceList="$state/suite.sources" -o Dir::Etc::SourceParts=/dev/null
        -o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts=/dev/null -o Dir::State="$state"
        -o Dir::State::Lists="$state/lists" -o Dir::State::status="$state/status" -o Dir::Cache="$state"
        -o Dir::Cache::archives="$state/archives" -o Acquire::Languages=none -o APT::Sandbox::User=root -o Debug::NoLocking=1)
    apt-get "${options[@]}" update >&2 || die "no package lists of Debian $suite"
    apt-get "${options[@]}" install -y --no-install-recommends --download-only criu >&2 || die "could not fetch criu of Debian $suite"
    for package in "$state"/archives/*.deb; do
        dpkg-deb -x "$package" "$root"
    done
    rm -rf "$state"
    loader=$(find "$root" -name 'ld-linux*.so.*' -type f | head -n 1)
    [ -n "$loader" ] || die "Debian $suite's criu came without a loader"
    printf '#!/bin/sh\nexec %s --library-path %s %s "$@"\n' "$loader" "$(dirname "$loader")" "$root/usr/sbin/criu" > "$own/bin/criu"
    chmod +x "$own/bin/criu"
}

found() {
    echo "criu: $1, $("$1" --version | head -n 1)" >&2
    dirname "$1"
    exit 0
}

on_path() { command -v criu || true; }

if works "$(on_path)"; then found "$(on_path)"; fi
if works "$own/bin/criu"; then found "$own/bin/criu"; fi
install() { apt-get install -qq -y --no-install-recommends criu >/dev/null 2>&1; }
if [ -z "$(on_path)" ] && { install || { apt-get update -qq >&2 && install; }; } && works "$(on_path)"; then found "$(on_path)"; fi
for suite in trixie sid; do
    echo "criu: fetching Debian $suite's" >&2
    unpack $suite
    if works "$own/bin/criu"; then found "$own/bin/criu"; fi
done
"$own/bin/criu" check >&2 || true
die "no CRIU works on this kernel ($(uname -r))"
