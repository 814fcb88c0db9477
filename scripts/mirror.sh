# mirror.sh: sourced by the scripts that fetch from Debian's archive. No address stands in this tree.
# shellcheck shell=bash

# mirror [APT-OPTION...]: the machine's own Debian mirror, or that of its distribution's parent, as its apt lists have it; nothing
# where there is none
mirror() {
    # awk reads to the end: a pipe that is closed early would be a failure under pipefail
    apt-get "$@" indextargets --format '$(REPO_URI) $(ORIGIN) $(RELEASE)' 'Created-By: Packages' 2>/dev/null |
        awk '$2 == "Debian" && $3 !~ /security/ && !found { print $1; found = 1 }'
}
