#!/usr/bin/env bash
# Makes .venv-neutron with the real Neutron, for `make test-neutron` and `make bench-neutron`: tools/neutron-venv.sh
#
#   PYTHON      Python to build with         PIP_ARGS    more arguments for pip
#   PIP_PYTHON  whose pip to use             NEUTRON_VENV  where (default: .venv-neutron)
#
# A stamp holds what was asked for; while it fits, nothing is done.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${NEUTRON_VENV:-.venv-neutron}
# PyMySQL: how neutron-server reaches MariaDB.  waitress: serves its WSGI API.
wanted=(neutron==29.0.0 PyMySQL waitress)

say() { printf '==> %s\n' "$*"; }

# The checkout's place is part of the stamp: scripts in a virtual environment name their Python by its full path.
stamp="$(pwd -P) ${wanted[*]}"
if [ "$(cat "$venv/.stamp" 2>/dev/null)" = "$stamp" ] && "$venv/bin/python" -c '' 2>/dev/null; then
    exit 0
fi

if ! python=$(tools/find-python.sh); then
    echo "no Python 3.11 or newer found; name one with PYTHON=" >&2
    exit 1
fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT
quietly() {
    if ! "$@" >"$log" 2>&1 </dev/null; then
        tail -n 40 "$log" >&2
        say "failed: $* (above: the end of its output)"
        exit 1
    fi
}

say "python -m venv $venv ($("$python" --version), $python)"
rm -rf "$venv"
pip=("$venv/bin/python" -m pip)
if [ -n "${PIP_PYTHON:-}" ]; then
    quietly "$python" -m venv --without-pip "$venv"
    pip=("$PIP_PYTHON" -m pip --python "$venv/bin/python")
else
    quietly "$python" -m venv "$venv"
fi
say "pip install ${wanted[*]}"
# Not compiled: each program compiles what it imports, a fraction of all.
# shellcheck disable=SC2086  # PIP_ARGS is a list of words
quietly "${pip[@]}" install --disable-pip-version-check --no-input --no-compile ${PIP_ARGS:-} "${wanted[@]}"
echo "$stamp" >"$venv/.stamp"
