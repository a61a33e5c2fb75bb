#!/usr/bin/env bash
# Builds the Debian package in a bare Debian, and makes the host that it is tried on: tools/deb.sh [build | host]   (as root)
#
#   .vm/SUITE/base     Debian with nothing in it, as debootstrap leaves it
#   .vm/SUITE/build    the same with debian/control's Build-Depends and lintian
#   .vm/SUITE/host     base with systemd and what the package depends on and recommends, but not the package
#   build/deb/SUITE    the package, of this checkout with its changes that are not committed; an error of lintian is one here
#
#   SUITE     Debian release      (default: bookworm)
#
# build and host have a stamp; while it fits, they are kept.
set -euo pipefail
cd "$(dirname "$0")/.."
suite=${SUITE:-bookworm}
folder=$(mkdir -p ".vm/$suite" && cd ".vm/$suite" && pwd -P)
result=build/deb/$suite
log=$folder/log
# For a host that works: its bridges and instances, and what tests ask it by.
tools="systemd-sysv dbus iputils-ping curl logrotate"

# shellcheck source=tools/debian-tree.sh
. tools/debian-tree.sh
[ "$(id -u)" -eq 0 ] || die "must be run as root (debootstrap)"

# A field of debian/control or of a package, in one line.
field() { sed -n "/^$1:/,/^[^ ]/{/^$1:/s///p;/^ /p}" | tr -d '\n' | sed 's/, *$//; s/\${[^}]*},* *//g'; }

# fits NAME VALUE: the tree of that name was made from what the stamp says.
fits() { [ "$(cat "$folder/$1.stamp" 2>/dev/null)" = "$2" ]; }

base() {
    if ! fits base "$suite"; then
        if [ "$(cat .vm/base.stamp 2>/dev/null)" = "$suite" ]; then # that of the virtual machine
            rm -rf "$folder/base"
            cp -a .vm/base "$folder/base"
        else
            make_base "$suite" "$folder/base"
        fi
        echo "$suite" >"$folder/base.stamp"
    fi
}

# tree NAME STAMP SCRIPT: base after that script.
tree() {
    fits "$1" "$2" && return 0
    base
    rm -rf "$folder/$1" "$folder/$1.stamp"
    cp -a "$folder/base" "$folder/$1"
    quietly inside "$folder/$1" "apt-get update
        $3
        rm -rf /var/cache/apt/archives/*.deb"
    echo "$2" >"$folder/$1.stamp"
}

# What is packed, in the build tree.
put_sources() {
    local place=$folder/build/root/dvr-agent
    rm -rf "$folder/build/root"/*
    mkdir -p "$place"
    git ls-files -z --cached --others --exclude-standard |
        while IFS= read -r -d '' name; do [ ! -e "$name" ] || printf '%s\0' "$name"; done |
        tar --create --null --files-from=- | tar --extract --directory="$place" --no-same-owner
}

build() {
    local needs
    needs=$(field Build-Depends <debian/control)
    say "$suite: tree with $needs"
    # No compiler, which nothing here needs, and no byte code: that is a third of the time each.
    tree build "$needs" "install /dev/stdin /usr/local/bin/py3compile <<<'#!/bin/true'
        apt-get install -y --no-install-recommends lintian
        apt-get satisfy -y --no-install-recommends '$needs'"
    put_sources
    say "$suite: dpkg-buildpackage, lintian"
    inside "$folder/build" "cd dvr-agent
        dpkg-checkbuilddeps -I
        dpkg-buildpackage -d -us -uc -b >../log 2>&1 || { tail -n 60 ../log; exit 1; }
        lintian --fail-on error --tag-display-limit 0 ../*.changes"
    rm -rf "$result"
    mkdir -p "$result"
    cp "$folder"/build/root/*.{deb,changes,buildinfo} "$result/"
    ls "$result"/*.deb
}

host() {
    local package needs
    package=$(echo "$result"/*.deb)
    needs=$(dpkg-deb -f "$package" Depends Recommends | sed 's/^[A-Z][a-z]*: //' | paste -sd, -)
    say "$suite: host with $needs"
    tree host "$needs $tools" "apt-get install -y --no-install-recommends $tools
        apt-get satisfy -y --no-install-recommends '$needs'"
}

case "${1:-}" in
build) build ;;
host) host ;;
'') build && host ;;
*) die "build or host, not $1" ;;
esac
