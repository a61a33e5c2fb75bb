#!/usr/bin/env bash
# Proves packaging/Containerfile: builds the image, runs it on a host of its own, and counts the pings that are lost.
#
#   tools/check-container.sh        (as root, with the package of `make deb`; buildah and podman)
#
#   SUITE    Debian release of the image, whose tree .vm/SUITE/base is its base      (default: bookworm)
#
# The host is a network and mount namespace that vanishes at the end: an external bridge, two instances and a host in the
# internet, the router of etc/examples/demo.json.  Images are kept in .vm/SUITE/images, so that the next run is quick.
set -euo pipefail
cd "$(dirname "$0")/.."
suite=${SUITE:-bookworm}
folder=$PWD/.vm/$suite
storage=$folder/images
log=$folder/log
router=1ea71481-0c58-5b39-8d83-30b053d31c06

# shellcheck source=tools/debian-tree.sh
. tools/debian-tree.sh
[ "$(id -u)" -eq 0 ] || die "must be run as root (namespaces, privileged containers)"

# vfs and chroot need nothing of the kernel that a machine of CI might not give.
store=(--root "$storage" --runroot "$storage/run" --storage-driver vfs)
podman_() { podman "${store[@]}" --cgroup-manager cgroupfs --events-backend none --tmpdir "$storage/tmp" --log-level error "$@"; }

build_image() {
    if ! buildah "${store[@]}" images -q debian-base 2>/dev/null | grep -q .; then
        say "image of the tree $folder/base"
        tar -C "$folder/base" -c . | podman_ import -q - localhost/debian-base >"$log"
    fi
    say "buildah build"
    local apt
    apt=$(mktemp -d)
    apt_settings "$suite" "$apt"
    quietly buildah "${store[@]}" build --isolation chroot --network host --pull-never --layers \
        --volume "$apt:/etc/apt:ro" --volume /usr/share/keyrings:/usr/share/keyrings:ro \
        --build-arg BASE=localhost/debian-base --build-arg "PACKAGE=build/deb/$suite" \
        --tag localhost/dvr-agent --file packaging/Containerfile .
    rm -rf "$apt"
}

# Everything from here on happens on the host that vanishes.
host() {
    mount --make-rprivate /
    mount -t tmpfs tmpfs /run
    mount -t tmpfs tmpfs /var/lib
    ip link set lo up
    mkdir -p /run/netns /run/dvr-agent /run/dvr-agent-locks /run/dvr-metadata-proxy /var/lib/neutron /run/site/routers
    # As iproute2 and every agent makes it.
    mount --bind /run/netns /run/netns
    mount --make-shared /run/netns
    touch /run/xtables.lock
    cat >/run/site/dvr-agent.conf <<END
[DEFAULT]
host = demo
agent_mode = dvr_snat
enable_metadata_proxy = true
[bridge]
external_networks = 03e1a457-fd70-5b07-b873-faf775f0409b:br-ext
END
    ip link add br-ext type bridge
    ip link set br-ext up
    cp etc/examples/demo.json /run/site/routers/
}

start_agent() {
    podman_ rm --force --ignore dvr_agent >/dev/null # of a run that was interrupted
    podman_ run --detach --name dvr_agent --runtime crun --pids-limit 0 --network host --pid host --privileged \
        --volume /run/netns:/run/netns:"${1:-rshared}" --volume /run/dvr-agent:/run/dvr-agent \
        --volume /run/dvr-agent-locks:/run/dvr-agent-locks \
        --volume /run/dvr-metadata-proxy:/run/dvr-metadata-proxy --volume /run/xtables.lock:/run/xtables.lock \
        --volume /var/lib/neutron:/var/lib/neutron --volume /run/site:/etc/dvr-agent:ro localhost/dvr-agent >/dev/null
}

# It outlives the agent's container, as its unit outlives the agent's.  No control group: for that of a container without
# privileges crun raises a limit, which not every machine may.
start_proxy() {
    podman_ rm --force --ignore dvr_metadata_proxy >/dev/null
    podman_ run --detach --name dvr_metadata_proxy --runtime crun --cgroups disabled --network none \
        --volume /run/dvr-metadata-proxy:/run/dvr-metadata-proxy --volume /var/lib/neutron:/var/lib/neutron \
        localhost/dvr-agent dvr-metadata-proxy >/dev/null
}

# until_ SECONDS COMMAND: waits until the command succeeds.
until_() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $deadline ] || { podman_ logs dvr_agent >&2 || true; die "never so: $*"; }
        sleep 0.2
    done
}

# A condition of its own, since a container that is in sync without its router is in sync, too.
built() { ip netns list | grep -q "snat-$router" && podman_ exec dvr_agent dvrctl status; }

has_ended() { [ "$(podman_ inspect -f '{{.State.Status}}' dvr_agent)" = exited ]; }

refuses_a_private_mount() {
    say "without shared propagation the container refuses to start"
    start_agent rprivate || true
    until_ 60 has_ended
    podman_ logs dvr_agent 2>&1 | grep 'not shared with the host' || die "the reason is not in its log"
    podman_ rm -f dvr_agent >/dev/null
}

prove() {
    host
    refuses_a_private_mount
    say "an agent in a container builds a router on the host, and metadata is served by another container"
    .venv/bin/python tests_vm/metadata.py /var/lib/neutron/metadata_proxy & # in the place of neutron-metadata-agent
    start_proxy
    start_agent
    until_ 120 built
    podman_ exec dvr_agent dvrctl status | grep -i metadata
    ip netns list
    .venv/bin/python -c '
from tests_vm.site import instances
print("\n".join(vm.script() for vm in instances().values()))' | bash -eu
    until_ 60 ip netns exec internet ping -c 1 -W 1 203.0.113.101
    say "the container is removed while pings run, and another one started"
    ip netns exec internet ping -i 0.05 -W 5 203.0.113.101 >/run/pings &
    local pings=$!
    until_ 60 grep -q 'icmp_seq=20 ' /run/pings
    podman_ rm -f dvr_agent >/dev/null
    ip netns list | grep -q "qrouter-$router" || die "the namespaces went with the container"
    start_agent
    until_ 120 built
    kill -INT $pings
    wait $pings || true
    tail -n 2 /run/pings
    grep -q ' 0% packet loss' /run/pings || die "pings were lost"
    podman_ logs dvr_agent 2>&1 | grep -E ': (added|changed|removed): ' && die "the second container has written something"
    podman_ rm -f dvr_agent dvr_metadata_proxy >/dev/null
    say "a router in the host's namespaces, no ping lost, nothing written anew"
}

# Containers get control groups of version 2, below one of their own.
case "${1:-}" in
'')
    [ -e "build/deb/$suite" ] || die "there is no package for $suite: make deb"
    build_image
    # --kill-child: processes of containers end with this one.
    status=0
    unshare --mount --net --pid --fork --kill-child --mount-proc "$0" --groups || status=$?
    # Empty only now that every process of it has ended.
    unshare --mount sh -c 'umount -l /sys/fs/cgroup; mount -t cgroup2 cgroup2 /sys/fs/cgroup
        find /sys/fs/cgroup/dvr-container -depth -type d -exec rmdir {} \;' || true
    exit $status
    ;;
--groups)
    group=/sys/fs/cgroup/dvr-container
    umount -l /sys
    mount -t sysfs sysfs /sys # that of its own network
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
    mkdir -p $group
    echo 0 >$group/cgroup.procs
    exec unshare --cgroup "$0" --prove
    ;;
--prove)
    umount -l /sys/fs/cgroup
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
    prove
    ;;
esac
