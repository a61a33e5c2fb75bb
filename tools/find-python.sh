#!/usr/bin/env bash
# Prints the Python to build with: $PYTHON if given, else the first of python3, python3.13, … that is 3.11 or newer.
set -euo pipefail

fits() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

if [ -n "${PYTHON:-}" ]; then
    if ! fits "$PYTHON"; then
        echo "PYTHON=$PYTHON is not a Python 3.11 or newer" >&2
        exit 1
    fi
    "$PYTHON" -c 'import sys; print(sys.executable)'
    exit 0
fi
for name in python3 python3.13 python3.12 python3.11 /usr/bin/python3; do
    if fits "$name"; then
        "$name" -c 'import sys; print(sys.executable)'
        exit 0
    fi
done
exit 1
