#!/usr/bin/env bash
# Boots a tree of Debian: systemd as process 1 in namespaces of its own, on this machine's kernel, in some two seconds.
#
#   tools/boot-tree.sh TREE FOLDER      (as root; ends when the system ends, or by SIGTERM; it prints systemd's messages)
#
# What is written goes to FOLDER (an overlay), TREE stays as it is; FOLDER must be on a file system that overlays can be
# on.  Process id namespace, network, mounts, host name and control groups are private: nothing of this machine is
# changed but sysctls below net/ of the tree's own network.  FOLDER/pid has the process to enter it by (nsenter).
set -euo pipefail
[ $# -eq 2 ] || { sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 64; }
tree=$(cd "$1" && pwd -P)
folder=$(mkdir -p "$2" && cd "$2" && pwd -P)
mkdir -p "$folder/upper" "$folder/work" "$folder/root" "$folder/cgroup"
rm -f "$folder/pid"

# A control group below which systemd is the only one to make others; the mount is seen by nobody else.
group=$folder/cgroup/dvr-tree-$$
see_groups='mount -t cgroup2 cgroup2 "$1"; shift; exec "$@"'
system=
finish() {
    # With its process 1 everything in the tree ends, and then unshare; killed before that it leaves it to --kill-child.
    kill -KILL "$(cat "$folder/pid" 2>/dev/null || echo "$system")" 2>/dev/null || true
    [ -z "$system" ] || timeout 10 tail --pid="$system" -f /dev/null || kill -KILL "$system"
    wait || true
    rm -f "$folder/pid"
    unshare --mount -- bash -euc "$see_groups" bash "$folder/cgroup" \
        find "$group" -depth -type d -exec rmdir {} \; 2>/dev/null || true
}
trap finish EXIT
trap 'exit 0' TERM INT

setpriv --pdeathsig KILL unshare --mount -- bash -euc "$see_groups" bash "$folder/cgroup" bash -euc '
    mkdir "$1"
    echo 0 >"$1/cgroup.procs"
    shift
    exec unshare --mount --pid --fork --kill-child --uts --ipc --net --cgroup -- bash -euc "$@"
' bash "$group" '
    tree=$1 folder=$2
    mount --make-rprivate /
    mount -t overlay overlay -o "lowerdir=$tree,upperdir=$folder/upper,workdir=$folder/work" "$folder/root"
    cd "$folder/root"
    mount -t proc proc proc
    # Sysctls that are not of the network, and what else would reach this machine: to be read only.
    mount --bind -o ro proc/sys proc/sys
    mount --bind -o rw /proc/sys/net proc/sys/net
    [ ! -e proc/sysrq-trigger ] || mount --bind -o ro proc/sysrq-trigger proc/sysrq-trigger
    mount -t sysfs -o ro sysfs sys
    mount -t cgroup2 cgroup2 sys/fs/cgroup
    mount -t tmpfs -o mode=755 tmpfs dev
    mkdir dev/pts dev/shm
    for name in null zero full random urandom tty; do
        touch "dev/$name"
        mount --bind "/dev/$name" "dev/$name"
    done
    mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts
    mount -t tmpfs -o mode=1777 tmpfs dev/shm
    ln -s pts/ptmx dev/ptmx
    ln -s /proc/self/fd dev/fd
    mount -t tmpfs -o mode=755 tmpfs run
    mount -t tmpfs tmpfs tmp
    hostname node1
    pivot_root . mnt
    umount -l /mnt
    exec env -i container=namespaces PATH=/usr/sbin:/usr/bin:/sbin:/bin \
        setpriv --bounding-set=-sys_boot,-sys_module,-sys_time,-sys_rawio,-mknod \
        /lib/systemd/systemd --system --log-target=console --log-level=notice systemd.unit=multi-user.target
' bash "$tree" "$folder" &
system=$!
# The child that is in a process namespace of its own, as this machine numbers it.
while kill -0 "$system" 2>/dev/null; do
    child=$(tr -d ' ' <"/proc/$system/task/$system/children" 2>/dev/null || true)
    namespace=$(readlink "/proc/$child/ns/pid" || true) # empty: it has ended, as mkdir and mount before it
    if [ -n "$namespace" ] && [ "$namespace" != "$(readlink /proc/self/ns/pid)" ]; then
        echo "$child" >"$folder/pid.new"
        mv "$folder/pid.new" "$folder/pid"
        break
    fi
    sleep 0.05
done
wait "$system"
