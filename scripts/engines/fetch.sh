#!/bin/bash
# fetch.sh DIR: unpacks those of the engines' packages that are not installed into DIR/packages. Part of engines.sh.
set -euo pipefail
dir=$1
cache=${ENGINES_CACHE:-$dir/cache}

wanted=(containerd docker.io podman conmon netavark aardvark-dns iptables nftables catatonit uidmap busybox-static python3 iproute2 procps)
optional=(docker-cli docker-buildx golang-github-containers-common) # packages of their own only in newer suites

mkdir -p "$dir/packages/usr" "$dir/packages/etc" "$cache/partial"
compgen -G '/var/lib/apt/lists/*_Packages*' >/dev/null || apt-get update -qq
for package in "${optional[@]}"; do
    [[ $(apt-cache policy "$package") == *Candidate:\ [0-9]* ]] && wanted+=("$package")
done
missing=()
for package in "${wanted[@]}"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

echo "fetching ${missing[*]} (not installed, only unpacked)"
# download only: apt finds their dependencies that are not installed
apt-get install -qq -y --no-install-recommends --download-only -o Dir::Cache::archives="$cache" -o APT::Sandbox::User=root \
    -o DPkg::Lock::Timeout=300 "${missing[@]}" > "$dir/apt.log" 2>&1 ||
    { apt-get update -qq && apt-get install -qq -y --no-install-recommends --download-only -o Dir::Cache::archives="$cache" \
        -o APT::Sandbox::User=root -o DPkg::Lock::Timeout=300 "${missing[@]}" > "$dir/apt.log" 2>&1; } ||
    { cat "$dir/apt.log"; exit 1; }
for package in "$cache"/*.deb; do
    dpkg-deb -x "$package" "$dir/packages"
done
# some packages still use /bin, /sbin or /lib for the directories in /usr
for place in bin sbin lib lib64; do
    [ -d "$dir/packages/$place" ] || continue
    mkdir -p "$dir/packages/usr/$place"
    cp -a "$dir/packages/$place/." "$dir/packages/usr/$place/"
done
