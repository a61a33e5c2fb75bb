#!/usr/bin/env bash
# systemd-analyze verify of the units: tools/check-unit.sh [DIRECTORY]
#
# The programs a unit names must exist, so the check runs on copies that name those in $BIN (default: .venv/bin).
set -euo pipefail
cd "$(dirname "$0")/.."
units=${1:-etc}
bin=${BIN:-$PWD/.venv/bin}

directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
for unit in dvr-agent dvr-metadata-proxy dvr-vrrp dvr-agent-web; do
    program=$unit
    [ "$unit" != dvr-agent-web ] || program=dvrctl
    # What a condition runs need not be there for the unit to be right.
    sed -e "s|^ExecStart=[^ ]*|ExecStart=$bin/$program|" -e "s|^ExecCondition=\(+\?\)[^ ]*|ExecCondition=\1/bin/true|" \
        "$units/$unit.service" >"$directory/$unit.service"
done
if ! systemd-analyze verify --man=no "$directory"/*.service >"$directory/log" 2>&1 || [ -s "$directory/log" ]; then
    sed "s|$directory/||g" "$directory/log" >&2
    echo "$units: systemd-analyze verify is not content" >&2
    exit 1
fi
