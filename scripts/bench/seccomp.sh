#!/bin/bash
# seccomp.sh [PROFILE]: what a seccomp profile costs, with onggi and with libseccomp (binary tree and list): compiling it, the
# kernel's installing it, and each system call of the payload. PROFILE is a linux.seccomp document, by default Docker's.
# Needs cargo, cc and libseccomp's headers (Debian: gcc libc6-dev libseccomp-dev); no root. Times are the fastest of
# many rounds on this machine and compare with each other only.
set -euo pipefail
cd "$(dirname "$0")/../.."
profile=${1:-tests/seccomp_diff/profiles/docker.json}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

# the path is asked for, as a machine's own configuration may move the target directory
bench=$(cargo build --quiet --release --example seccomp_bench --message-format=json |
  sed -n 's/.*"executable":"\([^"]*seccomp_bench\)".*/\1/p')
cc -O2 -Wall -o "$tmp/oracle" tests/seccomp_diff/oracle.c -lseccomp
cc -O2 -Wall -o "$tmp/payload" scripts/bench/seccomp.c

echo "profile: $profile; kernel $(uname -r); libseccomp $(dpkg-query -W -f '${Version}' libseccomp2 2>/dev/null || echo '?')"
mkdir "$tmp/programs"
"$bench" "$profile" "$tmp/oracle" "$tmp/programs"

printf '\n%-18s%9s%11s%11s%11s%11s\n' 'nanoseconds of' 'install' 'getppid' 'openat' 'persona.' 'clone3'
printf '%-18s' 'no filter' && "$tmp/payload" 100000
for who in onggi:onggi tree:'libseccomp tree' list:'libseccomp list'; do
  printf '%-18s' "${who#*:}" && "$tmp/payload" 100000 "$tmp/programs/${who%%:*}"
done
