#!/usr/bin/env bash
# Makes .venv-debian: this checkout on Debian's own Python packages (bindep.txt, profile debian), with nothing from pip.
#
# What runs there runs with the oldest versions that pyproject.toml allows.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=.venv-debian
hash=$({ pwd -P; cat pyproject.toml bindep.txt; } | sha256sum | cut -c1-64)
if [ "$(cat "$venv/.stamp" 2>/dev/null)" = "$hash" ] && "$venv/bin/python" -c '' 2>/dev/null; then
    exit 0
fi
echo "==> $venv (/usr/bin/python3 with Debian's packages)"
rm -rf "$venv"
/usr/bin/python3 -m venv --system-site-packages "$venv"
# The metadata of this checkout alone, made by Debian's setuptools: no index is asked, no dependency fetched.
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-index --no-deps --no-build-isolation -e .
echo "$hash" >"$venv/.stamp"
