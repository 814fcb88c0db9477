#!/bin/bash
# schema.sh: runs schema.py with the JSON schemas and samples of the OCI runtime spec from the distribution's source package.
# RUNTIME=/path WORK=DIR schema.sh prints one line per document. BUILD_ONLY=1: fetches and stops.
set -eu
. "$(dirname "$0")/debian.sh"
programs python3 python3-jsonschema
mkdir -p "$WORK"
# the newest version
source_package sid golang-github-opencontainers-specs "$WORK/spec"
[ -z "${BUILD_ONLY:-}" ] || exit 0
mkdir -p "$LOGS"
exec /usr/bin/python3 "$(dirname "$0")/schema.py" "$RUNTIME" "$WORK/spec/schema" 2> "$LOGS/errors.log"
