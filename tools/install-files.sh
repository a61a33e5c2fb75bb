#!/usr/bin/env bash
# Installs everything of the agent that is not Python: units, users, configuration, log rotation, man pages, completion,
# alerts and dashboard.
#
#   tools/install-files.sh            installs below DESTDIR; a configuration that is there is never overwritten
#   tools/install-files.sh --list     prints the paths of what it installs, one a line, but not those of the configuration
#
# The one list of these files: `make install`, `make uninstall`, debian/rules and packaging/dvr-agent.spec call this script.
# Variables, as in the Makefile: PREFIX DESTDIR SYSCONFDIR UNITDIR PAGES_PYTHON.
set -euo pipefail
cd "$(dirname "$0")/.."

prefix=${PREFIX:-/usr/local}
destdir=${DESTDIR:-}
sysconfdir=${SYSCONFDIR:-/etc}
case "$prefix" in
/usr | /usr/local) default_unitdir=$prefix/lib/systemd/system ;; # systemd reads these two …
*) default_unitdir=$sysconfdir/systemd/system ;;                 # … and under /etc, but no other prefix
esac
unitdir=${UNITDIR:-$default_unitdir}
# Debian's zsh looks for the completions of packages elsewhere than zsh itself does.
zshdir=$prefix/share/zsh/site-functions
[ "$prefix" != /usr ] || [ ! -e /etc/debian_version ] || zshdir=$prefix/share/zsh/vendor-completions

work=
say() { printf '==> %s\n' "$*"; }

# SOURCE TARGET, one file a line; pages: those that `make_pages` makes.
files() {
    local unit section page file
    for unit in etc/*.service; do
        echo "$unit $unitdir/${unit##*/}"
    done
    echo "etc/dvr-agent.sysusers $prefix/lib/sysusers.d/dvr-agent.conf"
    echo "etc/dvr-agent.logrotate $sysconfdir/logrotate.d/dvr-agent"
    for file in prometheus/dvr-agent.rules.yaml grafana/dvr-agent.json; do
        echo "etc/$file $prefix/share/dvr-agent/$file"
    done
    for page in dvrctl.1 dvr-agent.conf.5 dvr-agent.8 dvr-metadata-proxy.8 dvr-vrrp.8; do
        section=${page##*.}
        echo "pages/man/$page $prefix/share/man/man$section/$page"
    done
    echo "pages/completion/bash/dvrctl $prefix/share/bash-completion/completions/dvrctl"
    echo "pages/completion/zsh/_dvrctl $zshdir/_dvrctl"
    echo "pages/completion/fish/dvrctl.fish $prefix/share/fish/vendor_completions.d/dvrctl.fish"
}

# Manual pages and completion, made of the programs themselves; one that `files` does not have is a mistake.
make_pages() {
    local python=${PAGES_PYTHON:-.venv/bin/python} page
    "$python" -m tools.manual "$work/pages/man"
    "$python" -m tools.completion "$work/pages/completion"
    [ "$sysconfdir" = /etc ] || sed -i "s|/etc/dvr\\\\-agent|$sysconfdir/dvr-agent|g" "$work"/pages/man/*
    while read -r page; do
        grep -q "^$page " <<<"$(files)" || { echo "$page is not in the list of $0" >&2; exit 1; }
    done < <(cd "$work" && find pages -type f)
}

# Units name the programs and the configuration by their paths.
put() {
    mkdir -p "$destdir${2%/*}"
    case "$1" in
    *.service)
        sed -e "s|/usr/local/bin/|$prefix/bin/|" -e "s|/etc/dvr-agent/|$sysconfdir/dvr-agent/|g" "$1" >"$work/unit"
        install -m 0644 "$work/unit" "$destdir$2"
        say "$2"
        ;;
    pages/*) install -m 0644 "$work/$1" "$destdir$2" ;;
    *) install -m 0644 "$1" "$destdir$2" ;;
    esac
}

# A configuration that is there is the operator's; the new one is laid beside it if it differs.
install_config() {
    local target=$sysconfdir/dvr-agent/dvr-agent.conf
    cp etc/dvr-agent.conf.sample "$work/conf"
    # The default in the code says /etc.
    [ "$sysconfdir" = /etc ] || sed -i "s|^#path = /etc/dvr-agent|path = $sysconfdir/dvr-agent|" "$work/conf"
    mkdir -p "$destdir$sysconfdir/dvr-agent/routers" "$destdir$sysconfdir/dvr-agent/dvr-agent.conf.d"
    if [ ! -e "$destdir$target" ]; then
        install -m 0640 "$work/conf" "$destdir$target"
        say "$target"
    elif ! cmp -s "$work/conf" "$destdir$target"; then
        install -m 0640 "$work/conf" "$destdir$target.new"
        say "$target is kept; the current sample is $target.new"
    fi
}

if [ "${1:-}" = --list ]; then
    files | cut -d ' ' -f 2
    exit 0
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
make_pages
files | while read -r source target; do
    put "$source" "$target"
done
install_config
