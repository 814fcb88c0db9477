#!/bin/bash
# runc-bats.sh: runc's integration suite (tests/integration/*.bats) against a runtime with runc's command line, from Debian packages
# only: no git, no Go modules, no image registry.
#
#   RUNTIME=/path/to/runtime runc-bats.sh [FILE.bats...]
#
# Environment:
#   RUNTIME       the runtime to test
#   RUNC_VERSION  whose suite: 1.1.5 (bookworm, the default), 1.1.15 (trixie) or 1.3.6 (sid; gone from the mirrors once sid moves on)
#   WORK          where sources, helpers and images are kept; a second run finds everything there and needs neither network nor apt
#   LOGS          where the TAP of every file goes (default: $WORK/logs)
#   LIMIT         seconds a file may go without a result before its test is killed (default 90)
#   RUNC_USE_SYSTEMD=1  run the suite with --systemd-cgroup (needs systemd as init)
#   DEBIAN_SUITE  of the "debian" root file system (default: trixie)
#   BUILD_ONLY=1  prepare and stop.   NO_APT=1  never install anything.
#
# One line per test, "PASS|FAIL|SKIP file:test  # remark", then "N passed, N failed, N skipped".
# Exit status: 0 it ran, 2 the suite could not be prepared.
#
# What comes from where:
#   the tests and testdata       Debian's source package runc (orig tarball)
#   recvtty, seccompagent, ...   Go programs of that tarball, built with Debian's golang-*-dev in
#                                GOPATH mode; where Debian's libraries are too old (1.3.6), the
#                                replacements below
#   the busybox image            busybox-static
#   the debian image             debootstrap --variant=minbase
# Changes made to the suite's copy: get-images.sh names the local images, and helpers.bash waits
# for the sockets of recvtty and seccompagent (on a busy machine the runtime is faster).
# Needs root. Containers, mounts and processes that failing tests leave behind die with the
# private mount and pid namespaces the suite runs in.
set -u
. "$(dirname "$0")/debian.sh"

RUNC_VERSION=${RUNC_VERSION:-1.1.5}
case $RUNC_VERSION in
1.1.5) SHA256=e936cc563c4557178b3416aa1bb9e8231c53011beb8df67adedbfbaba4eacce7 HELPERS=contrib/cmd ;;
1.1.15) SHA256=d557179f18a5d515ffc5b8ed1a7113af4619a1041c27408a2f83c1ece4d4d426 HELPERS=contrib/cmd ;;
1.3.6) SHA256=008c1386c4e36cedf0f4a8c1e74da3d0dfc6789f73e166b8b8df5f107ac5edb8 HELPERS=tests/cmd ;;
*) echo "runc-bats: RUNC_VERSION $RUNC_VERSION is not known here" >&2; exit 2 ;;
esac
TAR=runc_$RUNC_VERSION+ds1.orig.tar.xz
# CRIU locks a container's network with iptables
PROGRAMS="bats jq gawk busybox-static debootstrap gcc libc6-dev libseccomp-dev pkgconf python3 procps
	iproute2 iptables util-linux xz-utils golang-go"
LIBS="golang-github-containerd-console-dev
	golang-github-cyphar-filepath-securejoin-dev golang-github-seccomp-libseccomp-golang-dev
	golang-github-coreos-go-systemd-dev golang-dbus-dev golang-github-cilium-ebpf-dev
	golang-github-moby-sys-dev golang-github-sirupsen-logrus-dev golang-github-urfave-cli-dev
	golang-github-opencontainers-specs-dev golang-golang-x-sys-dev golang-github-mrunalp-fileutils-dev
	golang-github-opencontainers-selinux-dev golang-gocapability-dev golang-golang-x-net-dev"

WORK=${WORK:?}
LOGS=${LOGS:-$WORK/logs}
LIMIT=${LIMIT:-90}
DEBIAN_SUITE=${DEBIAN_SUITE:-trixie}
GP=$WORK/gopath-$RUNC_VERSION
SRC=$GP/src/github.com/opencontainers/runc
IT=$SRC/tests/integration
SELF=$(realpath "$0")

# replacements for helpers whose libraries Debian does not have
recvtty_py() {
	cat <<'PY'
#!/usr/bin/python3
"""recvtty --pid-file FILE --mode null SOCKET: takes console file descriptors, discards output."""
import argparse, array, os, socket, threading

p = argparse.ArgumentParser()
p.add_argument("--pid-file")
p.add_argument("--mode", default="null")
p.add_argument("--no-stdin", action="store_true")
p.add_argument("socket")
a = p.parse_args()
s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
s.bind(a.socket)
s.listen(16)
if a.pid_file:
    with open(a.pid_file, "w") as f:
        f.write(str(os.getpid()))


def drain(fd):
    try:
        while os.read(fd, 65536):
            pass
    except OSError:
        pass
    os.close(fd)


while True:
    c, _ = s.accept()
    _, anc, _, _ = c.recvmsg(4096, socket.CMSG_SPACE(64))
    for level, kind, data in anc:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds = array.array("i")
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
            for fd in fds:
                threading.Thread(target=drain, args=(fd,), daemon=True).start()
    c.close()
PY
}
pidfd_kill_py() {
	cat <<'PY'
#!/usr/bin/python3
"""pidfd-kill --pid-file FILE --signal NAME SOCKET: takes one pidfd; on SIGTERM sends it NAME."""
import argparse, array, os, signal, socket, sys

p = argparse.ArgumentParser()
p.add_argument("--pid-file")
p.add_argument("--signal", default="SIGKILL")
p.add_argument("socket")
a = p.parse_args()
try:
    sig = int(a.signal)
except ValueError:
    n = a.signal.upper()
    sig = getattr(signal, n if n.startswith("SIG") else "SIG" + n)
s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
s.bind(a.socket)
s.listen(1)
if a.pid_file:
    with open(a.pid_file, "w") as f:
        f.write(str(os.getpid()))
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
c, _ = s.accept()
_, anc, _, _ = c.recvmsg(4096, socket.CMSG_SPACE(64))
fds = array.array("i")
for level, kind, data in anc:
    if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
        fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
if not fds:
    sys.exit("no file descriptor came")
signal.sigwait({signal.SIGTERM})
signal.pidfd_send_signal(fds[0], sig)
PY
}

build_helpers() {
	export GOPATH=$GP:$WORK/gocode/usr/share/gocode GO111MODULE=off GOFLAGS='' GOTOOLCHAIN=local GOCACHE=$WORK/gocache
	local d n out
	mkdir -p "$SRC/tests/cmd/_bin"
	echo "# building the helpers of runc $RUNC_VERSION ($(/usr/bin/go version))" >&2
	for d in "$SRC/$HELPERS"/*/; do
		n=$(basename "$d")
		case $n in _bin | memfd-bind) continue ;; esac
		case $HELPERS in contrib/cmd) out=$d$n ;; *) out=$SRC/tests/cmd/_bin/$n ;; esac
		if (cd "$SRC" && /usr/bin/go build -tags "seccomp urfave_cli_no_docs" -o "$out" "github.com/opencontainers/runc/$HELPERS/$n") 2>"$WORK/build-$n.log"; then
			continue
		fi
		case $n in
		recvtty) recvtty_py > "$out" ;;
		pidfd-kill) pidfd_kill_py > "$out" ;;
		sd-helper) echo "# sd-helper does not build: the systemd tests that need it will fail" >&2; continue ;;
		*) cat "$WORK/build-$n.log" >&2; die "$n does not build" ;;
		esac
		chmod 755 "$out"
	done
}

build_busybox() {
	local img=$WORK/busybox.tar r a
	[ -f "$img" ] && return
	r=$(mktemp -d "$WORK/bbXXXXXX") && chmod 755 "$r" # the mode becomes that of the root directory
	mkdir -p "$r"/{bin,dev,etc,home,lib,lib64,root,tmp,usr/bin,usr/sbin,var/www}
	chmod 1777 "$r/tmp"; chmod 700 "$r/root"
	cp "$(command -v busybox)" "$r/bin/busybox"
	for a in $("$r/bin/busybox" --list); do [ -e "$r/bin/$a" ] || ln "$r/bin/busybox" "$r/bin/$a"; done
	ln -s ../../bin/env "$r/usr/bin/env"
	printf '%s:x:%s:%s:%s:%s:%s\n' root 0 0 root /root /bin/sh daemon 1 1 daemon /usr/sbin /bin/false \
		bin 2 2 bin /bin /bin/false sys 3 3 sys /dev /bin/false mail 8 8 mail /var/mail /bin/false \
		www-data 33 33 www-data /var/www /bin/false nobody 65534 65534 nobody /home /bin/false > "$r/etc/passwd"
	printf '%s:x:%s:\n' root 0 daemon 1 bin 2 sys 3 adm 4 tty 5 disk 6 mail 8 audio 29 www-data 33 \
		utmp 43 video 44 staff 50 users 100 nogroup 65534 > "$r/etc/group"
	tar -C "$r" --numeric-owner --owner=0 --group=0 -cf "$img.new" . && mv "$img.new" "$img" || die "no busybox image"
	rm -rf "$r"
}

build_debian() {
	local img=$WORK/debian-$DEBIAN_SUITE.tar r
	[ -f "$img" ] && return
	r=$(mktemp -d "$WORK/dbXXXXXX") && chmod 755 "$r"
	echo "# debootstrap $DEBIAN_SUITE" >&2
	debootstrap --variant=minbase --keyring=/usr/share/keyrings/debian-archive-keyring.gpg "$DEBIAN_SUITE" "$r" "$(mirror)" > "$WORK/debootstrap.log" 2>&1 ||
		{ tail -5 "$WORK/debootstrap.log" >&2; die "debootstrap failed"; }
	tar -C "$r" --numeric-owner --exclude='./var/cache/apt/*' --exclude='./var/lib/apt/lists/*' \
		--exclude='./usr/share/doc/*' --exclude='./usr/share/man/*' --exclude='./usr/share/locale/*' \
		--exclude='./dev/*' -cf "$img.new" . && mv "$img.new" "$img" || die "no debian image"
	rm -rf --one-file-system "$r"
}

prepare() {
	mkdir -p "$WORK" || die "cannot write to $WORK"
	local stamp=$SRC/.prepared
	# shellcheck disable=SC2086 # the names are words
	programs $PROGRAMS
	if ! [ -f "$stamp" ]; then
		# shellcheck disable=SC2086
		libraries "$WORK/gocode" $LIBS
		pool "r/runc/$TAR" "$SHA256" "$WORK/$TAR"
		rm -rf "$GP"
		mkdir -p "$SRC"
		tar -xf "$WORK/$TAR" -C "$SRC" --strip-components=1 || die "cannot unpack $TAR"
		build_helpers
		python3 - "$IT/helpers.bash" <<'PY' || die "helpers.bash is not as expected"
import re, sys
p = sys.argv[1]
s = open(p).read()
wait = "\tlocal i\n\tfor ((i = 0; i < 100; i++)); do [ -S \"$%s\" ] && break; sleep 0.05; done\n\ttrue\n"
s, a = re.subn(r'(\t\([^\n]*--mode null "\$CONSOLE_SOCKET" &\) &\n)', lambda m: m[1] + wait % "CONSOLE_SOCKET", s)
s, b = re.subn(r'(\t\([^\n]*-socketfile="\$SECCCOMP_AGENT_SOCKET"[^\n]*&\) &\n)',
               lambda m: m[1] + wait % "SECCCOMP_AGENT_SOCKET", s)
open(p, "w").write(s)
sys.exit(a != 1 or b != 1)
PY
		touch "$stamp"
	fi
	build_busybox
	build_debian
	# written each time: the images may have another name (DEBIAN_SUITE), and the tree another path
	cat > "$IT/get-images.sh" <<SH
#!/bin/bash
echo "BUSYBOX_IMAGE=$WORK/busybox.tar"
echo "DEBIAN_IMAGE=$WORK/debian-$DEBIAN_SUITE.tar"
SH
}

# Runs its arguments on a terminal of their own (many tests open /dev/tty) and ends with them: bats
# itself would wait for whatever a failing test leaves behind with its pipes. The process group is
# killed after LIMIT seconds without output, and 10 s after the TAP plan is complete.
on_tty() {
	python3 - "$@" <<'PY'
import errno, fcntl, os, pty, re, select, signal, sys, termios, time

idle, path, cmd = float(sys.argv[1]), sys.argv[2], sys.argv[3:]
master, slave = pty.openpty()
attrs = termios.tcgetattr(slave)
attrs[1] &= ~termios.OPOST
attrs[3] &= ~termios.ECHO
termios.tcsetattr(slave, termios.TCSANOW, attrs)
out = open(path, "wb", buffering=0)
pid = os.fork()
if pid == 0:
    os.setsid()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    for fd in (0, 1, 2):
        os.dup2(slave, fd)
    os.closerange(3, 256)
    os.execvp(cmd[0], cmd)
os.close(slave)
last, rest, plan, seen, done = time.monotonic(), b"", None, 0, None


def drain(wait):
    global last, rest, plan, seen, done
    while select.select([master], [], [], wait)[0]:
        try:
            data = os.read(master, 65536)
        except OSError as e:
            if e.errno == errno.EIO:  # nobody has the terminal open
                time.sleep(0.02)
                return
            raise
        out.write(data)
        last, wait = time.monotonic(), 0
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            if m := re.match(rb"1\.\.(\d+)", line):
                plan = int(m[1])
            seen += bool(re.match(rb"(not )?ok \d+ ", line))
        done = last if plan is not None and seen >= plan else None


while not os.waitpid(pid, os.WNOHANG)[0]:
    now = time.monotonic()
    if (done and now - done > 10) or now - last > idle:
        for sig in signal.SIGTERM, signal.SIGKILL:
            try:
                os.killpg(pid, sig)
            except ProcessLookupError:
                break
            time.sleep(1)
        os.waitpid(pid, 0)
        break
    drain(0.02)
drain(0)
PY
}

# a regular expression (POSIX extended) for exactly this text
quote() { sed -e 's/[^A-Za-z0-9 ]/[&]/g' -e 's/\[\([]^\\[]\)\]/\\\1/g' <<< "$1"; }
run_file() {
	local f=$1 n=${1%.bats} o=$LOGS/$1.tap round=0 filter t line left rest
	local -A seen
	mapfile -t left < <(sed -nE 's/^@test +"(.*)" +\{.*/\1/p' "$f")
	: > "$o"
	while [ ${#left[@]} -gt 0 ]; do
		filter=
		[ $((round++)) -gt 0 ] && for t in "${left[@]}"; do filter=$filter${filter:+|}$(quote "$t"); done
		on_tty "$LIMIT" "$o.part" bats -t ${filter:+-f "^($filter)\$"} "$f"
		cat "$o.part" >> "$o"
		seen=()
		while IFS= read -r line; do
			t=${line#*ok } t=${t#* } t=${t%% # skip*}
			seen[$t]=1
			case $line in
			'ok '*'# skip'*) report SKIP "$n:$t" "${line##*# skip }" ;;
			'ok '*) report PASS "$n:$t" ;;
			*) report FAIL "$n:$t" ;;
			esac
		done < <(tr -d '\000\r' < "$o.part" | grep -aE '^(ok|not ok) [0-9]+ ')
		rest=()
		for t in "${left[@]}"; do [ -n "${seen[$t]:-}" ] || rest+=("$t"); done
		left=("${rest[@]}")
		if [ ${#left[@]} -gt 0 ]; then # the first without a result hung; continue with the others
			report FAIL "$n:${left[0]}" "no result in $LIMIT s"
			left=("${left[@]:1}")
		fi
		# a frozen process can neither be killed nor waited for (cgroup v1)
		find /sys/fs/cgroup -name freezer.state -exec sh -c 'grep -q FROZEN "$0" && echo THAWED > "$0"' {} \; 2>/dev/null
	done
	rm -f "$o.part"
}

if [ "${RUNC_BATS_INSIDE:-}" != 1 ]; then
	prepare
	[ -z "${BUILD_ONLY:-}" ] || exit 0
	RUNTIME=$(command -v "${RUNTIME:-runc}") && RUNTIME=$(realpath "$RUNTIME") || die "no such runtime"
	mkdir -p "$LOGS"
	export RUNTIME RUNC_VERSION WORK LOGS LIMIT RUNC_BATS_INSIDE=1
	# (with systemd the tests talk to it about their processes: then in its pid namespace)
	if [ -n "${RUNC_USE_SYSTEMD:-}" ]; then exec unshare -m --propagation private "$SELF" "$@"; fi
	unset RUNC_USE_SYSTEMD
	exec unshare -m -p --fork --kill-child --mount-proc --propagation private "$SELF" "$@"
fi

unset BATS_TEST_TIMEOUT # its timer would be one more child for a test's bare `wait`
TMPDIR=$(mktemp -d) || die "no temporary directory"
export TMPDIR
chmod 755 "$TMPDIR"
# some tests look for the name in the runtime's output; replacements of runc print either name
ln -s "$RUNTIME" "$TMPDIR/runc"
export RUNC=$TMPDIR/runc
# a freshly booted kernel has no such link, and the suite and this script need it
[ -e /dev/fd ] || ln -s /proc/self/fd /dev/fd
trap 'cd /; rm -rf --one-file-system "$TMPDIR"' EXIT
cd "$IT" || exit 2
[ $# -gt 0 ] || set -- *.bats
for f in "$@"; do run_file "$f"; done
echo "$P passed, $F failed, $S skipped"
exit 0
