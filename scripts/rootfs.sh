#!/bin/sh
# rootfs.sh DIR [PROGRAM]: makes a root file system in DIR for a bundle: `scripts/rootfs.sh bundles/shell/rootfs`.
#
# Without PROGRAM the root holds the distribution's busybox-static with a link for each of its applets (BUSYBOX=PATH takes another
# static busybox); the package is installed with apt when it is missing. With PROGRAM, a static executable, the root holds only that,
# as /bin/NAME. Both get /etc/passwd, /etc/group and the usual empty directories. Existing files in DIR stay.
set -eu
[ $# = 1 ] || [ $# = 2 ] || { sed -n 2,6p "$0"; exit 2; }
root=$1

say() { echo "rootfs.sh: $*" >&2; }

# prints the path of a static busybox; for users other than root it is unpacked into $scratch and not installed
find_busybox() {
    if [ -n "${BUSYBOX:-}" ]; then
        echo "$BUSYBOX"
        return
    fi
    if ! command -v dpkg-query >/dev/null; then
        say "this is not Debian or Ubuntu: set BUSYBOX=PATH to the path of a static busybox"
        return 1
    fi
    if ! dpkg-query -W -f '${Status}' busybox-static 2>/dev/null | grep -q 'ok installed'; then
        if [ "$(id -u)" != 0 ]; then
            (cd "$scratch" && apt-get -qq download busybox-static && dpkg-deb -x busybox-static_*.deb .) >&2
            find "$scratch" -path '*bin/busybox' -type f
            return
        fi
        say "installing busybox-static"
        apt-get install -qq -y --no-install-recommends busybox-static >/dev/null 2>&1 || {
            apt-get update -qq >&2
            apt-get install -qq -y --no-install-recommends busybox-static >/dev/null
        }
    fi
    dpkg-query -L busybox-static | grep 'bin/busybox$'
}

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

for directory in bin dev etc home proc root run sbin sys tmp usr/bin usr/sbin var/log var/tmp; do
    mkdir -p "$root/$directory"
done
chmod 1777 "$root/tmp" "$root/var/tmp"
chmod 700 "$root/root"
printf 'root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/home:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n' > "$root/etc/passwd"
printf 'root:x:0:\ntty:x:5:\nuser:x:1000:\nnogroup:x:65534:\n' > "$root/etc/group"

if [ $# = 2 ]; then
    cp "$2" "$root/bin/$(basename "$2")"
    exit
fi
busybox=$(find_busybox)
[ -x "$busybox" ] || { say "no busybox"; exit 1; }
cp "$busybox" "$root/bin/busybox"
"$busybox" --list-full | while read -r applet; do
    case $applet in
    bin/busybox) ;;
    usr/*/*) ln -sf ../../bin/busybox "$root/$applet" ;;
    */*) ln -sf ../bin/busybox "$root/$applet" ;;
    *) ln -sf bin/busybox "$root/$applet" ;; # linuxrc
    esac
done
