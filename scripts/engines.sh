#!/bin/bash
# engines.sh [RUNTIME] [--only REGEX] [--engines "ctr docker podman rootless"] [--keep] [--peer NAME=PATH]... [--run COMMAND]: tests the
# runtime with real engines.
#
# Takes containerd, Docker and Podman from the distribution's packages, starts private instances of them that call RUNTIME (default:
# the release build of this tree), and runs short checks on what their users do. One line per check; last `N passed, N failed`.
#
# This machine is not changed. Packages that are not installed are only unpacked, into a directory under /var/tmp that is an overlay on
# /usr and /etc in a private mount namespace. The engines also have their own network, pid, ipc and uts namespaces, /run, data roots and
# sockets, and end with the pid namespace. The image is built here from busybox-static: nothing is pulled.
# The engines are configured with the blocks that README.md shows to users.
#
#   --only REGEX   checks whose name matches     --engines ...  only these        --keep  keep the directory with the daemons' logs
#   --run COMMAND  runs a command with the engines instead of the checks (scripts/bench/axes/engines.py) and returns its status
#   --peer NAME=PATH  another runtime, called peer-NAME in Docker
# Needs root and a Debian or Ubuntu with apt. Fetches up to 80 MB; ENGINES_CACHE=DIR keeps the packages for the next time.
set -uo pipefail
tree=$(cd "$(dirname "$0")/.." && pwd)

runtime='' only=. engines="ctr docker podman rootless" keep='' command='' peers=()
while [ $# -gt 0 ]; do
    case $1 in
    --only) only=$2; shift ;;
    --engines) engines=$2; shift ;;
    --keep) keep=1 ;;
    --run) command=$2; shift ;;
    --peer) peers+=("$2"); shift ;;
    -*) sed -n '2,/^set/p' "$0" | sed '$d'; exit 2 ;;
    *) runtime=$1 ;;
    esac
    shift
done
[ "$(id -u)" = 0 ] || { echo "engines.sh: needs root" >&2; exit 1; }
if [ -z "$runtime" ]; then
    cd "$tree" || exit 1
    . scripts/toolchain.sh
    runtime=$(built onggi --release --bin onggi) || exit 1
fi
runtime=$(readlink -f "$(command -v "$runtime")") || { echo "engines.sh: no such runtime" >&2; exit 1; }

dir=$(mktemp -d /var/tmp/onggi-engines.XXXXXX)
chmod 755 "$dir"
# top-level cgroups that the engines create, and ours; existing ones are not touched
cgroups=(docker default moby libpod_parent buildkit onggi-engines)
roots() { printf '%s\n' /sys/fs/cgroup /sys/fs/cgroup/*/ | sed 's,/$,,'; }
before=$(for root in $(roots); do for name in "${cgroups[@]}"; do ls -d "$root/$name" 2>/dev/null; done; done)

# the pid namespace has ended; its processes may take a moment to leave their cgroups
clean_up() {
    for root in $(roots); do
        for name in "${cgroups[@]}"; do
            [ -d "$root/$name" ] && ! grep -qxF "$root/$name" <<<"$before" || continue
            for _ in 1 2 3 4 5; do
                find "$root/$name" -depth -type d -exec rmdir {} + 2>/dev/null
                [ -d "$root/$name" ] || break
                sleep 0.2
            done
        done
    done
    [ -n "$keep" ] && echo "kept: $dir" || rm -rf "$dir"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

"$tree/scripts/engines/fetch.sh" "$dir" || exit 1
inside=(unshare --mount --net --pid --fork --ipc --uts --propagation private --kill-child=KILL --mount-proc
    bash "$tree/scripts/engines/inside.sh" "$dir" "$runtime" "$engines" "${peers[@]}")
if [ -n "$command" ]; then
    echo "$command" > "$dir/command"
    "${inside[@]}" </dev/null
    exit
fi
mkdir "$dir/bin"
criu=$("$tree/scripts/criu.sh") || exit 1
ln -s "$criu/criu" "$dir/bin/criu"
for engine in $engines; do
    grep -oE '^check_[a-z0-9_]+' "$tree/scripts/engines/$engine.sh" | sed "s/^check_/$engine /" | grep -E "$only"
done > "$dir/checks"
echo "$(basename "$runtime"): $("$runtime" --version | head -n 1), $(wc -l < "$dir/checks") checks"

start=$SECONDS
"${inside[@]}" </dev/null
echo "time: $((SECONDS - start)) s"
result=$(cat "$dir/result" 2>/dev/null || echo "0 passed, 1 failed")
echo "$result"
[[ $result == *", 0 failed" && $result != "0 passed"* ]]
