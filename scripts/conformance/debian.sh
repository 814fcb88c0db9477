# debian.sh: sourced by the suites: prints results; gets programs, libraries and sources from the distribution. Uses the mirror of the
# machine's apt sources.
# shellcheck shell=bash
. "$(dirname "${BASH_SOURCE[0]}")/../mirror.sh"

die() { echo "$(basename "$0"): $*" >&2; exit 2; }

# report STATUS TEST [REMARK]: prints a line for a test, and counts it in the totals P, F and S
P=0 F=0 S=0
report() {
    case $1 in
    PASS) P=$((P + 1)) ;;
    SKIP) S=$((S + 1)) ;;
    FAIL) F=$((F + 1)) ;;
    esac
    printf '%s %s%s\n' "$1" "$2" "${3:+  # $3}"
}

# programs PACKAGE...: installs missing packages
programs() {
    local package missing=()
    for package; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    [ -z "${NO_APT:-}" ] || die "not installed: ${missing[*]}"
    DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}" >&2 ||
        { apt-get -q update >&2 && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}" >&2; } ||
        die "apt-get install failed"
}

# libraries DIR PACKAGE...: unpacks Go libraries into DIR; they are not installed, because their dependencies may conflict
libraries() {
    local dir=$1 new deb
    shift
    [ ! -d "$dir" ] || return 0
    [ -z "${NO_APT:-}" ] || die "no libraries in $dir"
    new=$(mktemp -d "$dir.XXXXXX")
    mkdir "$new/debs" "$new/tree"
    (cd "$new/debs" && apt-get -q -o APT::Sandbox::User=root download "$@" >&2) || die "apt-get download failed"
    for deb in "$new"/debs/*.deb; do dpkg-deb -x "$deb" "$new/tree" || die "cannot unpack $deb"; done
    mv "$new/tree" "$dir"
    rm -rf "$new"
}

# pool PATH SHA256 FILE: fetches a file of the mirror's pool; apt verifies the checksum
pool() {
    local uri
    if [ -f "$3" ] && echo "$2  $3" | sha256sum -c --quiet 2>/dev/null; then return 0; fi
    uri=$(mirror)
    [ -n "$uri" ] || die "no Debian mirror in this machine's apt sources"
    /usr/lib/apt/apt-helper -o APT::Sandbox::User=root download-file "${uri%/}/pool/main/$1" "$3" "SHA256:$2" >/dev/null 2>&1 ||
        die "the mirror does not have $1"
}

# source_package SUITE PACKAGE DIR: fetches the newest upstream sources in a suite; the checksum comes from the archive's signed index.
# Uses a private apt configuration, so the machine's apt is not changed.
source_package() {
    local suite=$1 package=$2 dir=$3 new uri sum
    [ ! -d "$dir" ] || return 0
    [ -z "${NO_APT:-}" ] || die "no sources in $dir"
    uri=$(mirror)
    [ -n "$uri" ] || die "no Debian mirror in this machine's apt sources"
    new=$(mktemp -d "$dir.XXXXXX")
    mkdir -p "$new/lists/partial" "$new/cache/archives/partial" "$new/source"
    printf 'Types: deb-src\nURIs: %s\nSuites: %s\nComponents: main\nSigned-By: %s\n' "$uri" "$suite" \
        /usr/share/keyrings/debian-archive-keyring.gpg > "$new/suite.sources"
    local apt=(apt-get -q -o Dir::Etc::SourceList="$new/suite.sources" -o Dir::Etc::SourceParts=/dev/null -o Dir::Etc::Preferences=/dev/null
        -o Dir::Etc::PreferencesParts=/dev/null -o Dir::State::Lists="$new/lists" -o Dir::Cache="$new/cache" -o APT::Sandbox::User=root
        -o Debug::NoLocking=1)
    "${apt[@]}" update >&2 || die "apt-get update failed"
    local line
    # 'URI' NAME SIZE SHA256:SUM
    line=$("${apt[@]}" --print-uris source "$package" | grep -m1 '\.orig\.tar\.') || die "$suite has no source package $package"
    read -r uri _ _ sum <<< "$line"
    /usr/lib/apt/apt-helper -o APT::Sandbox::User=root download-file "$(tr -d "'" <<< "$uri")" "$new/orig.tar" "$sum" >/dev/null 2>&1 ||
        die "could not fetch the sources of $package"
    tar -xf "$new/orig.tar" -C "$new/source" --strip-components=1 || die "cannot unpack the sources of $package"
    mv "$new/source" "$dir"
    rm -rf "$new"
}
