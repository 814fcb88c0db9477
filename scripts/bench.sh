#!/bin/sh
# bench.sh [AXIS...] [--rounds N] [--only NAME,NAME...]: measures startup latency and cost of onggi, the floor and every peer on PATH.
# bench.sh order                                       regenerates scripts/bench/start-path.ld, the order of functions (scripts/bench/order.py); takes minutes.
#
# Axes are the files of scripts/bench/axes (default: run; `all` for each; `--list` names them), and `seccomp` (scripts/bench/seccomp.sh). Results: a table on stdout and
# target/bench/AXIS.json; for run also a chart, target/bench/run.svg. Needs root, a C compiler (gcc) and python3; strace for the counts of system calls.
# Peers: crun, crun-static, runc, youki on PATH, and any in PEERS="name=path name=path". ONGGI=PATH measures another build of onggi.
set -eu
tree=$(cd "$(dirname "$0")/.." && pwd)
out=$tree/target/bench

[ "${1:-}" != seccomp ] || { shift; exec "$tree/scripts/bench/seccomp.sh" "$@"; }
[ "${1:-}" != --list ] || exec python3 "$tree/scripts/bench/bench.py" --list
[ "$(id -u)" = 0 ] || { echo "bench.sh: needs root: it makes cgroups, namespaces and mounts" >&2; exit 1; }
for tool in gcc python3; do
    command -v "$tool" >/dev/null || { echo "bench.sh: $tool is missing: apt-get install $tool" >&2; exit 1; }
done

mkdir -p "$out"
main=bench.py
if [ "${1:-}" = order ]; then
    shift
    main=order.py
    # the map must be that of this program
    : "${ONGGI_MAP:=$out/onggi.map}"
    export ONGGI_MAP
fi
if [ -z "${ONGGI:-}" ]; then
    cd "$tree"
    . scripts/toolchain.sh
    ONGGI=$(built onggi --release --quiet --bin onggi)
fi
export ONGGI

strict="-O2 -Wall -Wextra -static -no-pie"
src=$tree/scripts/bench
# shellcheck disable=SC2086 # the flags are words
{
    gcc $strict -o "$out/floor" "$src/floor.c"
    gcc $strict -o "$out/drive" "$src/drive.c"
    gcc $strict -o "$out/empty" "$src/empty.c"
    gcc $strict -o "$out/filterof" "$src/filterof.c"
    [ $main != order.py ] || gcc $strict -o "$out/steps" "$src/steps.c"
    gcc $strict -nostdlib -fno-stack-protector -fno-asynchronous-unwind-tables -Wl,--build-id=none \
        -Wl,-z,noseparate-code -o "$out/true" "$src/payload.c"
}

# The same floor with musl, which starts without cpuid instructions (see scripts/bench/NOTES.md).
rm -f "$out/floor-musl"
if command -v musl-gcc >/dev/null; then
    musl-gcc -O2 -static -idirafter /usr/include -idirafter "/usr/include/$(gcc -dumpmachine)" -o "$out/floor-musl" "$src/floor.c"
fi

# A mount namespace for this run, with only cgroup2 on /sys/fs/cgroup (crun refuses the hybrid layout), and state directories
# on a tmpfs, as /run is on real hosts.
# Descriptor 9 is the machine's own mount namespace, for the axis `engines`.
exec 9< /proc/self/ns/mnt
# shellcheck disable=SC2016 # $1 belongs to the inner shell
exec unshare --mount --propagation private sh -euc '
    if [ "$(stat -f -c %T /sys/fs/cgroup)" != cgroup2fs ]; then
        umount -R /sys/fs/cgroup
        mount -t cgroup2 cgroup2 /sys/fs/cgroup
    fi
    mkdir -p "$1/run"
    mount -t tmpfs -o mode=755 tmpfs "$1/run"
    shift
    PYTHONDONTWRITEBYTECODE=1 exec python3 "$@"' sh "$out" "$src/$main" --out "$out" "$@"
