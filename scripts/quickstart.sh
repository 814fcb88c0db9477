#!/bin/bash
# quickstart.sh: builds onggi, runs the sample bundle bundles/hello and shows what the container sees.
#
# For Debian 12, 13 and Ubuntu 24.04 with a Rust toolchain, as root. Installs a C linker (gcc) with apt if there is none, and nothing
# else. Needs no image and no registry: the container's program is built from this tree.
# ONGGI_RUNTIME=PATH does the same with another runtime (runc, crun).
set -euo pipefail
cd "$(dirname "$0")/.."

fail() { echo "quickstart.sh: $*" >&2; exit 1; }

if [ "$(id -u)" != 0 ]; then
    cat >&2 <<'EXPLANATION'
quickstart.sh: this needs root, because a container made for the whole machine needs it:
  cgroup      a directory in /sys/fs/cgroup that carries the memory and pids limits
  namespaces  new mount, network, pid, ipc, uts and cgroup namespaces, without a user namespace around them
  mounts      /proc, /sys and /dev inside the container's root
Run it as:  sudo scripts/quickstart.sh
EXPLANATION
    exit 1
fi

. scripts/toolchain.sh
command -v cc >/dev/null || need gcc libc6-dev # the linker that rustc calls

echo "building; the first time takes about a minute"
onggi=$(built onggi --release --bin onggi)
hello=$(built hello --release --example hello)
runtime=${ONGGI_RUNTIME:-$onggi}

bundle=bundles/hello
scripts/rootfs.sh $bundle/rootfs "$hello"
for namespace in pid mnt net ipc uts cgroup user time; do
    inode=$(readlink /proc/self/ns/$namespace)
    inode=${inode##*[}
    echo "$namespace ${inode%]}"
done > $bundle/rootfs/host-namespaces

# microseconds from the call to the return of `run`
run() {
    local start=$EPOCHREALTIME
    "$runtime" run --bundle $bundle "quickstart-$$" || return
    microseconds=$((${EPOCHREALTIME/./} - ${start/./}))
}
as_ms() { printf '%d.%02d ms' $(($1 / 1000)) $(($1 % 1000 / 10)); }

echo
echo "${runtime#"$PWD"/} run --bundle $bundle quickstart-$$"
echo
run || fail "the container did not run"
first=$microseconds
for _ in {1..20}; do
    run >/dev/null || fail "the container did not run"
    echo "$microseconds"
done | sort -n > target/quickstart-times
median=$(sed -n 10p target/quickstart-times)

cat <<END

That container was made, run and removed in $(as_ms "$first"); the median of 20 more is $(as_ms "$median").

Next, in $PWD:
  a shell in a container
    scripts/rootfs.sh bundles/shell/rootfs && ${onggi#"$PWD"/} run --bundle bundles/shell box
  what is done for a container, step by step
    ${onggi#"$PWD"/} plan bundles/hello
  how long it takes, next to the kernel's floor and to crun, runc and youki where they are installed
    scripts/bench.sh
  the tests
    scripts/test.sh
END
