#!/bin/bash
# lab.sh [--systemd [--v1]] [--fetch] COMMAND...: runs a command as root in User Mode Linux and returns its exit status.
#
# User Mode Linux is a kernel in an ordinary process: it needs no privileges and no virtualisation. It has cgroup v2 with
# cpu, io, memory and pids, all namespaces, seccomp and BPF, whatever the machine itself has. The command sees the
# machine's files at the same paths (hostfs, writable), with new /tmp and /run, a block device /dev/ubda and one
# processor; its standard input is empty, its output is printed here.
#   --systemd   boots a small Debian with systemd as init from an image instead; the machine's files are under /host and
#               the current directory is at its own path. The command runs as a service. Making the image needs root.
#   --v1        with cgroup v1 in systemd's hybrid layout: v1 hierarchies beside a cgroup2 mount without controllers.
#   --fetch     only fetches what is needed; runs no command.
# Environment: LAB_MEM (memory of the machine, 2G), LAB_TIMEOUT (seconds, 1800), LAB_KERNEL (more kernel arguments).
# Everything is kept under target/lab. Status 125: the lab itself failed.
set -eu -o pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
. "$top/scripts/mirror.sh"
lab=${CARGO_TARGET_DIR:-$top/target}/lab

die() { echo "lab: $*" >&2; exit 125; }

usage() { sed -n '2,15s/^# \{0,1\}//p' "$0" >&2; exit 125; }

# Finds the machine's own Debian mirror in its apt lists, so that no address is in this tree; a machine without lists gets some below
# target.
mirror=
find_mirror() {
  [ -z "$mirror" ] || return 0
  [ -e /usr/share/keyrings/debian-archive-keyring.gpg ] || die "needs the package debian-archive-keyring"
  local own=(-o Dir::State::Lists="$lab/lists" -o Debug::NoLocking=1 -o APT::Sandbox::User="$(id -un)")
  mirror=$(mirror)
  [ -n "$mirror" ] && return
  mkdir -p "$lab/lists/partial"
  fetch_lists() { apt-get -q "${own[@]}" update >&2; mirror=$(mirror "${own[@]}"); [ -n "$mirror" ]; }
  attempt fetch_lists || die "no Debian mirror in this machine's apt sources"
}

# Runs apt with private sources and state: the machine's apt is not changed, and nothing is installed.
private_apt() {
  local suite=$1 state=$lab/apt-$1
  shift
  mkdir -p "$state/lists/partial" "$state/cache/archives/partial"
  printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\nSigned-By: %s\n' "$mirror" "$suite" \
    /usr/share/keyrings/debian-archive-keyring.gpg > "$state/suite.sources"
  apt-get -o Dir::Etc::SourceList="$state/suite.sources" -o Dir::Etc::SourceParts=/dev/null \
    -o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts=/dev/null \
    -o Dir::State::Lists="$state/lists" -o Dir::Cache="$state/cache" -o Acquire::Languages=none \
    -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false -o APT::Sandbox::User="$(id -un)" \
    -o Debug::NoLocking=1 -q "$@"
}

# attempt COMMAND...: retries a few times, since a mirror may be in the middle of an update and networks fail.
attempt() {
  local pause
  for pause in ${pauses:-5 15 30}; do
    # `set -e` has no effect in a condition: the command's last status counts
    "$@" && return
    echo "lab: retrying in $pause s: $*" >&2
    sleep "$pause"
  done
  "$@"
}

download() {
  local suite=$1 new=$2
  shift 2
  private_apt "$suite" -o Acquire::Retries=3 --error-on=any update >&2 &&
    (cd "$new" && private_apt "$suite" -o Acquire::Retries=3 download "$@" >&2)
}

# fetch SUITE PACKAGE...: unpacks packages into $lab/SUITE/PACKAGE.
fetch() {
  local suite=$1 package new
  shift
  new=$(mktemp -d "$lab/fetch.XXXXXX")
  attempt download "$suite" "$new" "$@" || { rm -rf "$new"; return 1; }
  for package; do
    dpkg-deb -x "$new/$package"_*.deb "$new/$package"
    rm -rf "${lab:?}/$suite/$package"
    mkdir -p "$lab/$suite"
    mv "$new/$package" "$lab/$suite/$package"
  done
  rm -rf "$new"
}

# The kernel needs a newer C library than most machines have. It gets its own by a relative path (the path in the program header
# must be short), so it is started in $lab.
get_kernel() {
  [ -x "$lab/linux" ] && return
  local nul libc=$lab/sid/libc6/usr/lib/x86_64-linux-gnu
  [ "$(dpkg --print-architecture)" = amd64 ] || die "Debian has User Mode Linux for amd64 only"
  find_mirror
  fetch sid user-mode-linux libc6 || die "could not fetch the kernel (Debian's user-mode-linux)"
  ln -sfn "$libc/ld-linux-x86-64.so.2" "$lab/ld.so"
  nul=$(printf '\\x00%.0s' {1..20})
  LC_ALL=C sed "s#/lib64/ld-linux-x86-64.so.2#./ld.so$nul#" "$lab/sid/user-mode-linux/usr/bin/linux.uml" > "$lab/linux.new"
  chmod +x "$lab/linux.new"
  mv "$lab/linux.new" "$lab/linux"
}

# The image's root: the machine's own Debian release, smallest variant, with systemd, D-Bus and two engines.
make_tree() {
  local codename=$1 tree=$2 include
  # debootstrap does not resolve virtual packages: netavark provides podman's network
  include=systemd,systemd-sysv,dbus,dbus-user-session,libpam-systemd,procps,iproute2,uidmap,strace,containerd,podman,netavark
  rm -rf "$tree"
  DEBOOTSTRAP_DIR=$lab/$codename/debootstrap/usr/share/debootstrap \
    "$lab/$codename/debootstrap/usr/sbin/debootstrap" --variant=minbase --include=$include \
    --keyring=/usr/share/keyrings/debian-archive-keyring.gpg "$codename" "$tree" "$mirror" > "$lab/debootstrap.log" 2>&1
}

get_image() {
  local codename tree=$lab/systemd.tree
  # an image made by another version of this file is not used
  image=$lab/systemd-$(declare -f make_tree get_image | cksum | cut -d' ' -f1).ext4
  [ -e "$image" ] && return
  [ "$(id -u)" = 0 ] || die "making the systemd image needs root"
  for tool in wget mkfs.ext4; do # wget is debootstrap's
    command -v "$tool" > /dev/null || die "making the systemd image needs $tool"
  done
  find_mirror
  codename=$(. /etc/os-release && echo "${ID:-} ${VERSION_CODENAME:-}")
  case $codename in "debian "?*) codename=${codename#debian } ;; *) codename=bookworm ;; esac
  echo "lab: making the systemd image, once" >&2
  fetch "$codename" debootstrap || die "could not fetch debootstrap"
  # debootstrap retries downloads itself
  pauses=10 attempt make_tree "$codename" "$tree" || { tail -5 "$lab/debootstrap.log" >&2; die "could not make the systemd image"; }
  echo lab > "$tree/etc/hostname"
  : > "$tree/etc/machine-id"
  mkdir -p "$tree/host"
  # files that belong to one run are on the machine
  printf '%s\n' '#!/bin/sh' 'mount -t proc proc /proc && mount -t hostfs none /host' \
    'exec /bin/sh "/host$(sed "s/.*lab_run=\([^ ]*\).*/\1/" /proc/cmdline)/init"' > "$tree/lab-init"
  chmod +x "$tree/lab-init"
  # disable what a test machine does not need and what takes time
  ln -sf /dev/null "$tree/etc/systemd/system/getty.target"
  for unit in systemd-udev-trigger systemd-networkd systemd-timesyncd e2scrub_reap systemd-pstore ldconfig containerd podman \
    podman-auto-update podman-restart podman-clean-transient; do
    ln -sf /dev/null "$tree/etc/systemd/system/$unit.service"
  done
  for unit in apt-daily apt-daily-upgrade dpkg-db-backup fstrim e2scrub_all podman-auto-update; do
    ln -sf /dev/null "$tree/etc/systemd/system/$unit.timer"
  done
  ln -sf /dev/null "$tree/etc/systemd/system/podman.socket"
  rm -rf "$tree"/var/cache/apt/archives/*.deb "$tree"/var/lib/apt/lists/* "$tree"/usr/share/{doc,man,locale}
  rm -f "$lab"/systemd*.ext4*
  truncate -s 2500M "$image.new"
  mkfs.ext4 -q -F -d "$tree" "$image.new"
  rm -rf "$tree"
  mv "$image.new" "$image"
}

# Prints the command and its environment as a line of shell, before anything is mounted over the files that it names.
quoted() {
  printf 'cd %q && export HOME=/root PATH=%q LANG=C.UTF-8 ONGGI_LAB=1' "$PWD" "$PATH"
  local name
  for name in ${LAB_ENV:-} ONGGI_RUNTIME CARGO_HOME RUSTUP_HOME CARGO_TARGET_DIR RUST_BACKTRACE; do
    [ -z "${!name:-}" ] || printf ' %s=%q' "$name" "${!name}"
  done
  printf ' && exec'
  printf ' %q' "$@"
  echo
}

boot() {
  local status=$run/status
  : > "$status"
  # not in the environment of `timeout`, which uses the machine's own C library
  (cd "$lab" && exec timeout --foreground "${LAB_TIMEOUT:-1800}" env -i HOME="$run" TMPDIR="$run" \
    LD_LIBRARY_PATH="$lab/sid/libc6/usr/lib/x86_64-linux-gnu" \
    ./linux mem="${LAB_MEM:-2G}" uml_dir="$run/" ${LAB_KERNEL:-} rw quiet con=null con0=null,fd:2 con1=null,fd:1 "$@" < /dev/null 2> "$run/kernel.log") ||
    { cat "$run/kernel.log" >&2; die "the kernel stopped with status $?"; }
  [ -s "$status" ] || { cat "$run/kernel.log" >&2; die "the machine stopped before the command had ended"; }
  return "$(cat "$status")"
}

on_hostfs() {
  truncate -s 64M "$run/disk"
  cat > "$run/init" <<EOF
#!/bin/bash
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
exec 9> '$run/status'
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mountpoint -q /dev || mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
# keep the current directory visible if it is below one of these
mount --bind '$PWD' /mnt
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /tmp
mkdir -p '$PWD' && mount --bind /mnt '$PWD' && umount /mnt
mount -t cgroup2 -o nsdelegate cgroup2 /sys/fs/cgroup
ip link set lo up 2> /dev/null
stty -F /dev/tty1 raw -echo 2> /dev/null
# through a pipe, so that the output is no terminal
{ (
  exec 9>&- < /dev/null
  $(quoted "$@")
); echo \$? >&9; } 2>&1 | cat > /dev/tty1
sync
echo o > /proc/sysrq-trigger
sleep 100
EOF
  chmod +x "$run/init"
  boot root=/dev/root rootfstype=hostfs rootflags=/ init="$run/init" ubd0="$run/disk"
}

with_systemd() {
  cat > "$run/command" <<EOF
#!/bin/bash
stty -F /dev/tty1 raw -echo 2> /dev/null
{ (
  exec < /dev/null
  $(quoted "$@")
); echo \$? > '/host$run/status'; } 2>&1 | cat > /dev/tty1
systemctl --no-block poweroff -ff
EOF
  chmod +x "$run/command"
  cat > "$run/init" <<EOF
mount -t tmpfs tmpfs /run
# the tests create device nodes: systemd's own /tmp is mounted nodev
mount -t tmpfs -o mode=1777 tmpfs /tmp
mkdir -p '$PWD'
mount --bind '/host$PWD' '$PWD'
mkdir -p /run/systemd/system/multi-user.target.wants
cat > /run/systemd/system/lab.service <<UNIT
[Unit]
After=dbus.service systemd-logind.service
Wants=dbus.service systemd-logind.service
[Service]
Type=exec
ExecStart='/host$run/command'
Delegate=yes
UNIT
ln -s ../lab.service /run/systemd/system/multi-user.target.wants/
exec /sbin/init --log-level=warning --show-status=no
EOF
  boot root=/dev/ubda rootfstype=ext4 ubd0="$run/cow,$image" lab_run="$run" init=/lab-init
}

systemd=
while :; do
  case ${1:-} in
    --systemd) systemd=1; shift ;;
    # the second parameter avoids a 30-second warning of newer systemd about cgroup v1
    --v1) LAB_KERNEL="${LAB_KERNEL:-} systemd.unified_cgroup_hierarchy=0 SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1"; shift ;;
    --fetch) fetch_only=1; shift ;;
    -h | --help) usage ;;
    *) break ;;
  esac
done
[ $# -gt 0 ] || [ -n "${fetch_only:-}" ] || usage
mkdir -p "$lab"
# two instances must not fetch at the same time
exec 8> "$lab/lock"
flock 8
get_kernel
[ -z "$systemd" ] || get_image
flock -u 8
exec 8>&-
[ -z "${fetch_only:-}" ] || exit 0
# a path without spaces, for the kernel's command line
run=$(mktemp -d "${TMPDIR:-/tmp}/onggi-lab.XXXXXX")
trap 'rm -rf "$run"' EXIT
if [ -n "$systemd" ]; then with_systemd "$@"; else on_hostfs "$@"; fi
