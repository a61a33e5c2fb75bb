#!/usr/bin/env bash
# Proves `make install`: installs into a DESTDIR, moves the result to its final place, runs the programs there.
set -euo pipefail
cd "$(dirname "$0")/.."

place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
DESTDIR=$place/stage PREFIX=$place/usr SYSCONFDIR=$place/etc tools/install.sh
mv "$place/stage$place/usr" "$place/stage$place/etc" "$place/"
rm -r "$place/stage"
if grep -rlF "$place/stage" "$place"; then
    echo "the files above still name the staging directory" >&2
    exit 1
fi
for program in dvr-agent dvrctl dvr-metadata-proxy dvr-vrrp; do
    # From another directory and with nothing of the caller's environment, so that only the installed files count.
    (cd / && env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin "$place/usr/bin/$program" --version)
done
for file in man/man{1/dvrctl.1,5/dvr-agent.conf.5,8/dvr-agent.8} bash-completion/completions/dvrctl zsh/site-functions/_dvrctl \
    fish/vendor_completions.d/dvrctl.fish dvr-agent/{prometheus/dvr-agent.rules.yaml,grafana/dvr-agent.json}; do
    [ -s "$place/usr/share/$file" ] || { echo "share/$file is not installed" >&2; exit 1; }
done
if grep -l ' /etc/dvr' "$place"/usr/share/man/man*/*; then
    echo "the pages above name another directory of configuration" >&2
    exit 1
fi
if command -v systemd-analyze >/dev/null; then
    BIN=$place/usr/bin tools/check-unit.sh "$place/etc/systemd/system"
fi
