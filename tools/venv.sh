#!/usr/bin/env bash
# Makes .venv with this checkout installed editable: tools/venv.sh [EXTRA…]   (extras of pyproject.toml)
#
# A stamp per extra holds the hash of pyproject.toml and bindep.txt; while it fits, nothing is done.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${VENV:-.venv}

say() { printf '==> %s\n' "$*"; }

python_works() {
    [ -x "$venv/bin/python" ] && "$venv/bin/python" -c 'import sys' 2>/dev/null
}

# The checkout's place is part of the stamp: a moved or copied checkout has a venv that points elsewhere.
hash=$({ pwd -P; cat pyproject.toml bindep.txt; } | sha256sum | cut -c1-64)
todo=()
if [ $# -eq 0 ]; then
    # Every extra has brought the project itself.
    grep -qsxF "$hash" "$venv"/.stamp-* || todo=(none)
fi
for extra in "$@"; do
    [ "$(cat "$venv/.stamp-$extra" 2>/dev/null)" = "$hash" ] || todo+=("$extra")
done
if [ ${#todo[@]} -eq 0 ] && python_works; then
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

inside=$(cat "$venv/.checkout" 2>/dev/null || true)
if ! python_works || [ "$inside" != "$(pwd -P)" ]; then
    say "python -m venv $venv ($("$python" --version), $python)"
    rm -rf "$venv"
    quietly "$python" -m venv "$venv"
    pwd -P >"$venv/.checkout"
    todo=("${@:-none}")
fi
list=$(IFS=,; echo "${todo[*]}")
wanted=".[fast]"
[ "$list" = none ] || wanted=".[fast,$list]"
say "pip install -e $wanted"
quietly "$venv/bin/python" -m pip install --disable-pip-version-check --no-input -e "$wanted"
for extra in "${todo[@]}"; do
    echo "$hash" >"$venv/.stamp-$extra"
done
