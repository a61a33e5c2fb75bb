#!/usr/bin/env bash
# Prints the Python to build with: $PYTHON if given, else the first of python3, python3.13, … that is 3.11 or newer.
#
#   tools/find-python.sh [--for-services]
#
# --for-services: one that every user can run, and that is in no home directory: dvr-metadata-proxy runs as a user of its
# own and sees none (ProtectHome=).  The system's come first.  If $PYTHON is another one, that is said on stderr.
set -euo pipefail

fits() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

# Says why other users could not run a Python, nothing if they could: where its program and its library really are.
closed() {
    "$1" - <<'PYTHON'
import os, stat, sys
for place in (getattr(sys, "_base_executable", sys.executable), os.__file__):
    path = os.path.realpath(place)
    if path.startswith(("/root/", "/home/", "/run/user/")):
        sys.exit(print(f"{path} is in a home directory"))
    while path != "/":
        if os.path.isdir(path) and not os.stat(path).st_mode & stat.S_IXOTH:
            sys.exit(print(f"{path} is closed to other users"))
        if os.path.isfile(path) and not os.stat(path).st_mode & stat.S_IROTH:
            sys.exit(print(f"{path} is not readable for other users"))
        path = os.path.dirname(path)
PYTHON
}

for_services=0
[ "${1:-}" != --for-services ] || for_services=1

if [ -n "${PYTHON:-}" ]; then
    if ! fits "$PYTHON"; then
        echo "PYTHON=$PYTHON is not a Python 3.11 or newer" >&2
        exit 1
    fi
    if [ $for_services = 1 ] && why=$(closed "$PYTHON") && [ -n "$why" ]; then
        echo "PYTHON=$PYTHON: $why: dvr-metadata-proxy, which runs as another user, cannot start with it" >&2
    fi
    "$PYTHON" -c 'import sys; print(sys.executable)'
    exit 0
fi

names=(python3 python3.13 python3.12 python3.11 /usr/bin/python3)
if [ $for_services = 1 ]; then
    names=(/usr/bin/python3 /usr/bin/python3.1{3,2,1} /usr/local/bin/python3 /usr/local/bin/python3.1{3,2,1} "${names[@]}")
fi
for name in "${names[@]}"; do
    fits "$name" || continue
    if [ $for_services = 1 ] && why=$(closed "$name") && [ -n "$why" ]; then
        echo "$(command -v "$name"): $why: not used for services" >&2
        continue
    fi
    "$name" -c 'import sys; print(sys.executable)'
    exit 0
done
exit 1
