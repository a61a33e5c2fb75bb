#!/bin/sh
# Start script of the container (packaging/Containerfile): what a unit would do before the program starts.
set -eu

case "${1:-}" in
dvr-agent)
    # The host would not see the namespaces.  Fields of mountinfo: 5 is the mount point, "shared:N" among the optional ones
    # from 7 on means shared propagation.
    if ! grep -qE '^([^ ]+ ){4}/run/netns [^ ]+ ([a-z_]+:[0-9]+ )*shared:' /proc/self/mountinfo; then
        echo "/run/netns is not shared with the host: start the container with -v /run/netns:/run/netns:rshared" >&2
        exit 78
    fi
    ;;
dvr-metadata-proxy)
    # As its unit has it: a user of its own, without any right.
    install -d -m 0755 -o dvr-metadata /run/dvr-metadata-proxy
    set -- setpriv --reuid dvr-metadata --regid dvr-metadata --clear-groups --bounding-set=-all --inh-caps=-all \
        --no-new-privs "$@"
    ;;
esac
exec "$@"
