#!/usr/bin/env bash
# Runs a command with exactly the rights that dvr-agent.service gives its process, under a running systemd, as root:
#
#   tools/in-unit.sh [--harness] COMMAND [ARGUMENT…]      (UNIT=…: another unit file; DROPIN=…: one more file of settings)
#
# --harness leaves out RestrictNamespaces=, for a test suite that makes whole hosts of namespaces around the agent.
# The exit code is the command's; the working directory and stdin, stdout and stderr are the caller's.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
unit=${UNIT:-$here/etc/dvr-agent.service}

# How the process is started, supervised and ended is not about its rights.
skip='Type|NotifyAccess|Exec[A-Za-z]*|Restart[A-Z][A-Za-z]*Status|Restart|RestartSec|Timeout[A-Za-z]*|WatchdogSec|KillMode|RuntimeDirectory[A-Za-z]*|SyslogIdentifier'
if [ "${1:-}" = --harness ]; then
    skip="$skip|RestrictNamespaces"
    shift
fi
[ $# -gt 0 ] || { sed -n '2,7s/^# \{0,1\}//p' "$0" >&2; exit 64; }

mapfile -t properties < <(
    sed -n '/^\[Service\]/,/^\[Install\]/p' "$unit" ${DROPIN:+"$DROPIN"} | grep -E '^[A-Z][A-Za-z]*=' | grep -vE "^($skip)="
)
arguments=()
for property in "${properties[@]}"; do
    arguments+=(-p "$property")
done
exec systemd-run --quiet --collect --wait --pipe --same-dir --setenv=PATH="$PATH" "${arguments[@]}" -- "$@"
