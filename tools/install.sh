#!/usr/bin/env bash
# Installs the agent; called by `make install`, which documents the variables:
#   PREFIX DESTDIR SYSCONFDIR UNITDIR PYTHON EXTRAS PAGES_PYTHON   and   PIP_ARGS (more arguments for pip)   PIP_PYTHON
#   (whose pip to use)
#
# The virtual environment is always built beside its final place and then moved there, so a running agent keeps its
# files until the new ones are complete, and DESTDIR is only a special case: scripts and byte code are rewritten to
# name the final place.
set -euo pipefail
cd "$(dirname "$0")/.."

prefix=${PREFIX:-/usr/local}
destdir=${DESTDIR:-}
sysconfdir=${SYSCONFDIR:-/etc}
home=$prefix/lib/dvr-agent
staged=$destdir$prefix/lib/.dvr-agent.new
pip_python=${PIP_PYTHON:-.venv/bin/python}

say() { printf '==> %s\n' "$*"; }
die() { printf 'make install: %s\n' "$*" >&2; exit 1; }

for path in "$prefix" "$sysconfdir" "${UNITDIR:-/}"; do
    case "$path" in
    *[[:space:]\|\&\\%]*) die "$path: a path without spaces and | & \\ % please" ;;
    /*) ;;
    *) die "$path: an absolute path please" ;;
    esac
done
case "$destdir" in
'' | /*) ;;
*) die "DESTDIR=$destdir: an absolute path please" ;;
esac

python=$(tools/find-python.sh --for-services) ||
    die "no Python 3.11 or newer found that other users can run, outside of home directories; name one with PYTHON="
# Never the Python of a virtual environment: the installed one must not depend on it.
python=$("$python" -c 'import os, sys
print(os.path.realpath(getattr(sys, "_base_executable", sys.executable)))')

work=$(mktemp -d)
trap 'rm -rf "$work" "$staged"' EXIT
quietly() {
    if ! "$@" >"$work/log" 2>&1 </dev/null; then
        tail -n 40 "$work/log" >&2
        die "failed: $*"
    fi
}

build_venv() {
    say "virtual environment for $home ($("$python" --version))"
    rm -rf "$staged"
    mkdir -p "$destdir$prefix/lib"
    quietly "$python" -m venv --without-pip "$staged"
    # A copy of the sources, since setuptools leaves a build directory behind whose old files the next build would take.
    mkdir "$work/src"
    cp -R dvr_agent pyproject.toml README.md LICENSE "$work/src/"
    # shellcheck disable=SC2086  # PIP_ARGS is a list of words
    quietly "$pip_python" -m pip wheel --disable-pip-version-check --no-input --no-deps -w "$work/wheel" \
        ${PIP_ARGS:-} "$work/src"
    local wheel=("$work"/wheel/*.whl)
    # shellcheck disable=SC2086
    quietly "$pip_python" -m pip --python "$staged/bin/python" install --disable-pip-version-check --no-input \
        --no-compile --no-warn-script-location ${PIP_ARGS:-} "${wheel[0]}[fast${EXTRAS:+,$EXTRAS}]"
}

relocate_venv() {
    rm -f "$staged"/bin/[Aa]ctivate*
    local file
    for file in "$staged"/bin/* "$staged/pyvenv.cfg"; do
        if [ -f "$file" ] && [ ! -L "$file" ] && grep -qIF "$staged" "$file"; then
            sed -i "s|$staged|$home|g" "$file"
        fi
    done
    quietly "$python" -m compileall -q -s "$staged" -p "$home" "$staged/lib"
    rm -rf "$staged"/lib/python*/site-packages/dvr_agent-*.dist-info/direct_url.json
}

swap_venv() {
    rm -rf "$staged.old"
    [ ! -e "$destdir$home" ] || mv "$destdir$home" "$staged.old"
    mv "$staged" "$destdir$home"
    rm -rf "$staged.old"
}

link_programs() {
    mkdir -p "$destdir$prefix/bin"
    local program
    for program in dvr-agent dvrctl dvr-metadata-proxy dvr-vrrp; do
        [ -x "$destdir$home/bin/$program" ] || die "$home/bin/$program was not made"
        ln -sfn "../lib/dvr-agent/bin/$program" "$destdir$prefix/bin/$program"
        say "$prefix/bin/$program"
    done
}

# The users of the helper processes.  A package made with DESTDIR leaves that to its own scripts, another prefix to you.
make_users() {
    make_user dvr-metadata "the metadata proxy"
    make_user dvr-vrrp dvr-vrrp
    make_user dvr-web "the page of dvrctl web"
}

make_user() {
    if [ -n "$destdir" ] || id -u "$1" >/dev/null 2>&1; then
        return 0
    fi
    local command="useradd --system --no-create-home --home-dir / --shell /usr/sbin/nologin $1"
    case "$prefix" in
    /usr | /usr/local)
        # shellcheck disable=SC2086  # a list of words
        quietly $command
        say "user $1"
        ;;
    *) say "$2 needs a user:   $command" ;;
    esac
}

next_steps() {
    [ -z "$destdir" ] || return 0
    if [ "$(id -u)" -eq 0 ] && [ -d /run/systemd/system ]; then
        systemctl daemon-reload || true
    fi
    say "start it:   systemctl enable --now dvr-agent   (after an update: systemctl restart dvr-agent)"
}

build_venv
relocate_venv
swap_venv
link_programs
tools/install-files.sh
make_users
next_steps
