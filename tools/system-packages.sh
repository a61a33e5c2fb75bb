#!/usr/bin/env bash
# Makes sure that the Debian packages of bindep.txt are there: tools/system-packages.sh [PROFILE…]
#
# Packages without a profile always count, others when one of their profiles is named.  As root what is missing is
# installed; anybody else is told the command.  Quick and silent on the network when nothing is missing.
# On systems without dpkg it only reminds of the list.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '==> %s\n' "$*"; }

# Names of the packages in bindep.txt that the given profiles ask for.
wanted() {
    awk -v asked=" $* " '
        { sub(/#.*/, "") }
        NF == 0 { next }
        {
            name = $1
            profiles = 0; hit = 0
            if (match($0, /\[[^]]*\]/)) {
                n = split(substr($0, RSTART + 1, RLENGTH - 2), words, " ")
                for (i = 1; i <= n; i++) {
                    if (words[i] ~ /^platform:/) continue
                    profiles++
                    if (index(asked, " " words[i] " ")) hit = 1
                }
            }
            if (profiles == 0 || hit) print name
        }' bindep.txt
}

# A Python that is not Debian's brings its own venv module and headers.
python_brings() {
    [ -n "${PYTHON:-}" ] || return 1
    case "$1" in
    python3) "$PYTHON" -c 'import sys' ;;
    python3-venv) "$PYTHON" -c 'import ensurepip, venv' ;;
    python3-dev) "$PYTHON" -c 'import os, sys, sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' ;;
    *) return 1 ;;
    esac 2>/dev/null
}

installed() {
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

mapfile -t names < <(wanted "$@")
if ! command -v dpkg-query >/dev/null; then
    say "no dpkg here: make sure that you have what Debian calls: ${names[*]}"
    exit 0
fi

missing=()
for name in "${names[@]}"; do
    installed "$name" || python_brings "$name" || missing+=("$name")
done
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" -ne 0 ]; then
    say "missing system packages; install them and try again:"
    say "    sudo apt-get install -y --no-install-recommends ${missing[*]}"
    exit 1
fi

say "apt-get install ${missing[*]}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
export DEBIAN_FRONTEND=noninteractive
if ! { apt-get update && apt-get install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1 </dev/null; then
    tail -n 30 "$log" >&2
    say "apt-get failed (above: the end of its output)"
    exit 1
fi
