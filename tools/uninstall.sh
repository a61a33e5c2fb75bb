#!/usr/bin/env bash
# Removes what tools/install.sh made, but neither the configuration nor anything in the kernel.  Same variables.
set -euo pipefail
cd "$(dirname "$0")/.."

prefix=${PREFIX:-/usr/local}
destdir=${DESTDIR:-}
sysconfdir=${SYSCONFDIR:-/etc}

if [ -z "$destdir" ] && [ -d /run/systemd/system ]; then
    systemctl disable --now dvr-agent dvr-agent-web dvr-metadata-proxy dvr-vrrp 2>/dev/null || true
fi
for program in dvr-agent dvrctl dvr-metadata-proxy dvr-vrrp; do
    link=$destdir$prefix/bin/$program
    if [ "$(readlink "$link" 2>/dev/null)" = "../lib/dvr-agent/bin/$program" ]; then
        rm -f "$link"
    fi
done
rm -rf "$destdir$prefix/lib/dvr-agent"
tools/install-files.sh --list | while read -r path; do
    rm -f "$destdir$path"
done
rmdir --ignore-fail-on-non-empty "$destdir$prefix/share/dvr-agent"/{prometheus,grafana,} 2>/dev/null || true
printf '==> removed; kept: %s/dvr-agent, the users dvr-metadata, dvr-vrrp and dvr-web, the state files and the namespaces (dvrctl cleanup removes those)\n' "$sysconfdir"
