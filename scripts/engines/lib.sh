# lib.sh: functions of the checks; sourced by a new bash for each. DIR, RUNTIME, HERE, ENGINE and CHECK are set.
# shellcheck shell=bash disable=SC2034 # the checks use what is set here
OUT='' STATUS=0
name=check-${CHECK//_/-}
pty=(python3 "$HERE/terminal.py")
if [ -f /sys/fs/cgroup/cgroup.controllers ]; then v2=1; else v2=; fi

die() {
    local text=$*
    echo "${text//$'\n'/ | }"
    exit 1
}
# ends the check as skipped, with a reason
skip() {
    echo "$*"
    exit 77
}
# runs a command within 30 s; its output (both streams) is in OUT, its status in STATUS
run() {
    OUT=$(timeout -k 2 "${LIMIT:-30}" "$@" 2>&1 </dev/null)
    STATUS=$?
    OUT=${OUT//$'\r'/}
}
ok() { exits 0 "$@"; }
exits() {
    local wanted=$1
    shift
    run "$@"
    [ "$STATUS" = "$wanted" ] || die "status $STATUS, not $wanted, of [$*]: $OUT"
}
fails() {
    run "$@"
    [ "$STATUS" != 0 ] || die "no failure of [$*]: $OUT"
    [ "$STATUS" != 124 ] || die "no end of [$*]"
}
is() { [ "$OUT" = "$1" ] || die "wanted [$1], got [$OUT]"; }
has() {
    local word
    for word; do [[ $OUT == *"$word"* ]] || die "no [$word] in [$OUT]"; done
}
hasnt() {
    local word
    for word; do [[ $OUT != *"$word"* ]] || die "[$word] in [$OUT]"; done
}
like() { [[ $OUT =~ $1 ]] || die "no /$1/ in [$OUT]"; }
same() { [ "$1" = "$2" ] || die "wanted [$2], got [$1] ${3-}"; }
# soon SECONDS COMMAND...: repeats it until it succeeds
soon() {
    local end=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || die "never: $*"
        sleep 0.1
    done
}

# --- cgroups, on v1 and v2
# has_controller NAME: whether engines can use it here
has_controller() {
    if [ -n "$v2" ]; then grep -qw "$1" /sys/fs/cgroup/cgroup.controllers; else [ -d "/sys/fs/cgroup/$1" ]; fi
}
# skips the check if the controller is missing
needs_controller() {
    local controller
    for controller; do
        has_controller "$controller" || skip "this view has no $controller controller"
    done
}
# cgroup_of PID CONTROLLER: the cgroup directory of a process of this pid namespace
cgroup_of() {
    if [ -n "$v2" ]; then
        echo "/sys/fs/cgroup$(sed -n 's/^0:://p' "/proc/$1/cgroup")"
    else
        echo "/sys/fs/cgroup/$2$(awk -F: -v c="$2" '$2 == c {print $3}' "/proc/$1/cgroup")"
    fi
}
# limit_of PID CONTROLLER V2-FILE V1-FILE: the content of that file
limit_of() {
    local file=$4
    [ -z "$v2" ] || file=$3
    cat "$(cgroup_of "$1" "$2")/$file"
}
# the capability mask NAME (CapEff, CapBnd) from a status file on stdin
capabilities() { awk -v field="$1:" '$1 == field {print $2}'; }
all_capabilities() { capabilities CapBnd < /proc/1/status; }
every_capability() { printf '%016x' $(((1 << ($(cat /proc/sys/kernel/cap_last_cap) + 1)) - 1)); }

# a shell command that fetches / from an address (a static busybox's wget dies in the C library's resolver on some distributions)
get() { echo "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 5 $1 80"; }
