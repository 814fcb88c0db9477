#!/bin/sh
# Runs the integration suite in every cgroup world that this machine can show: as it is, and with only cgroup2 mounted.
# Arguments go to the test program: names, --test-threads, ... ONGGI_RUNTIME points the suite at another runtime.
set -eu
cd "$(dirname "$0")/.."
for world in native v2; do
    echo "== world: $world"
    ONGGI_CGROUP=$world cargo test --test integration -- "$@"
done
