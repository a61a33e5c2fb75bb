#!/usr/bin/env bash
# systemd-analyze verify of the unit: tools/check-unit.sh [FILE]
#
# The programs a unit names must exist, so the check runs on a copy that names the one in .venv.
set -euo pipefail
cd "$(dirname "$0")/.."
unit=${1:-etc/dvr-agent.service}
agent=${AGENT:-$PWD/.venv/bin/dvr-agent}

directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
sed "s|^ExecStart=[^ ]*|ExecStart=$agent|" "$unit" >"$directory/dvr-agent.service"
if ! systemd-analyze verify --man=no "$directory/dvr-agent.service" >"$directory/log" 2>&1 || [ -s "$directory/log" ]; then
    sed "s|$directory/||g" "$directory/log" >&2
    echo "$unit: systemd-analyze verify is not content" >&2
    exit 1
fi
