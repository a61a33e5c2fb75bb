#!/bin/sh
# Start script of the container (packaging/Containerfile): refuses to start an agent whose namespaces the host would not see.
set -eu

if [ "${1:-}" = dvr-agent ]; then
    # Fields of mountinfo: 5 is the mount point, "shared:N" among the optional ones from 7 on means shared propagation.
    if ! grep -qE '^([^ ]+ ){4}/run/netns [^ ]+ ([a-z_]+:[0-9]+ )*shared:' /proc/self/mountinfo; then
        echo "/run/netns is not shared with the host: start the container with -v /run/netns:/run/netns:rshared" >&2
        exit 78
    fi
fi
exec "$@"
