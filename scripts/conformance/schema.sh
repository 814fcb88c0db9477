#!/bin/bash
# schema.sh: the JSON schemas of the OCI runtime spec, and the samples they come with, from the distribution's source package.
# RUNTIME=/path WORK=DIR schema.sh prints a line a document. BUILD_ONLY=1: fetches and stops. See schema.py.
set -eu
. "$(dirname "$0")/debian.sh"
programs python3 python3-jsonschema
mkdir -p "$WORK"
# the newest that there is
source_package sid golang-github-opencontainers-specs "$WORK/spec"
[ -z "${BUILD_ONLY:-}" ] || exit 0
mkdir -p "$LOGS"
exec /usr/bin/python3 "$(dirname "$0")/schema.py" "$RUNTIME" "$WORK/spec/schema" 2> "$LOGS/errors.log"
