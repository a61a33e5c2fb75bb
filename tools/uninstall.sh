#!/usr/bin/env bash
# Removes what tools/install.sh made, but neither the configuration nor anything in the kernel.  Same variables.
set -euo pipefail

prefix=${PREFIX:-/usr/local}
destdir=${DESTDIR:-}
sysconfdir=${SYSCONFDIR:-/etc}
case "$prefix" in
/usr | /usr/local) default_unitdir=$prefix/lib/systemd/system ;;
*) default_unitdir=$sysconfdir/systemd/system ;;
esac
unitdir=${UNITDIR:-$default_unitdir}

if [ -z "$destdir" ] && [ -d /run/systemd/system ]; then
    systemctl disable --now dvr-agent dvr-metadata-proxy dvr-vrrp 2>/dev/null || true
fi
for program in dvr-agent dvrctl dvr-metadata-proxy dvr-vrrp; do
    link=$destdir$prefix/bin/$program
    if [ "$(readlink "$link" 2>/dev/null)" = "../lib/dvr-agent/bin/$program" ]; then
        rm -f "$link"
    fi
done
rm -rf "$destdir$prefix/lib/dvr-agent"
rm -f "$destdir$unitdir"/dvr-{agent,metadata-proxy,vrrp}.service
rm -f "$destdir$prefix/lib/sysusers.d/dvr-agent.conf"
share=$destdir$prefix/share
rm -f "$share"/man/man1/dvrctl.1 "$share"/man/man5/dvr-agent.conf.5 "$share"/man/man8/dvr-{agent,metadata-proxy,vrrp}.8
rm -f "$share/bash-completion/completions/dvrctl" "$share/zsh/site-functions/_dvrctl" "$share/fish/vendor_completions.d/dvrctl.fish"
printf '==> removed; kept: %s/dvr-agent, the users dvr-metadata and dvr-vrrp, the state files and the namespaces (dvrctl cleanup removes those)\n' "$sysconfdir"
