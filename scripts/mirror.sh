# mirror.sh: sourced by the scripts that fetch from Debian's archive. No mirror address is in this tree.
# shellcheck shell=bash

# mirror [APT-OPTION...]: prints the Debian mirror in the machine's apt lists, or nothing
mirror() {
    # awk reads to the end: a pipe that is closed early would fail under pipefail
    apt-get "$@" indextargets --format '$(REPO_URI) $(ORIGIN) $(RELEASE)' 'Created-By: Packages' 2>/dev/null |
        awk '$2 == "Debian" && $3 !~ /security/ && !found { print $1; found = 1 }'
}
