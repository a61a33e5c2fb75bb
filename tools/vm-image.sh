#!/usr/bin/env bash
# Makes what `make test-vm` boots: tools/vm-image.sh [DIRECTORY]   (default: .vm; as root)
#
#   DIRECTORY/base   Debian with nothing in it, as debootstrap leaves it
#   DIRECTORY/tree   the same after README's commands as they stand (what they install is what bindep.txt names, so that a
#                    package that is missing there is missing in the machine, too); then a kernel and systemd
#   DIRECTORY/disk, kernel, initrd   the tree with this checkout, changes that are not committed included, installed by
#                    `make install`
#
#   VM_SUITE     Debian release      (default: bookworm)
#
# base and tree have a stamp; while it fits, they are kept.
set -euo pipefail
cd "$(dirname "$0")/.."
checkout=$PWD
folder=$(mkdir -p "${1:-.vm}" && cd "${1:-.vm}" && pwd -P)
suite=${VM_SUITE:-bookworm}
tree=$folder/tree
place=/root/dvr-agent
here="tools/vm-image.sh tools/debian-tree.sh"

# shellcheck source=tools/debian-tree.sh
. tools/debian-tree.sh
log=$folder/log

[ "$(id -u)" -eq 0 ] || die "must be run as root (debootstrap)"

# README, "Try it": its commands, with the clone's source filled in, and the tests only collected: they run in the machine.
readme() {
    sed -n '/^## Try it/,/^## /{/^```sh/,/^```/{/^```/d;p}}' README.md |
        sed -e "s|<this repository>|/mnt$folder/repository|" -e 's|^\(make test\)\( .*\)\?$|\1 PYTEST_ARGS="--collect-only -q"|' \
            -e '/^make test-/d'
}

make_tree() {
    rm -rf "$folder/tree" "$folder/tree.new"
    cp -a --reflink=auto "$folder/base" "$folder/tree.new"
    rm -rf "$folder/repository"
    quietly git clone --bare . "$folder/repository"
    say "in a bare $suite, as README says:"
    readme | sed 's/^/      /; s|/mnt/[^ ]*|…|'
    quietly inside "$folder/tree.new" "$(readme)"
    say "a kernel and systemd for it"
    quietly inside "$folder/tree.new" "
        apt-get install -y --no-install-recommends linux-image-amd64 systemd-sysv dbus
        rm -rf /var/cache/apt/archives/*.deb /var/lib/apt/lists/*"
    rm -rf "$folder/repository"
    mv "$folder/tree.new" "$folder/tree"
}

# A file of the tree, from standard input.
put() { install -D -m 0644 /dev/stdin "$tree/$1"; }

# This checkout, with the virtual environment that `make test` made.
put_checkout() {
    find "$tree$place" -mindepth 1 -maxdepth 1 ! -name .venv ! -name .git -exec rm -rf {} +
    git ls-files -z --cached --others --exclude-standard |
        while IFS= read -r -d '' name; do [ ! -e "$name" ] || printf '%s\0' "$name"; done |
        tar --create --null --files-from=- | tar --extract --directory="$tree$place" --no-same-owner
}

configure() {
    put etc/fstab <<<"/dev/vda / ext4 rw,errors=remount-ro 0 1"
    put etc/hostname <<<node1
    put etc/hosts <<<"127.0.0.1 localhost node1"
    put etc/systemd/journald.conf.d/tests.conf <<<$'[Journal]\nStorage=persistent\nRateLimitBurst=0'
    install -D -m 0755 tests_vm/guest.py "$tree/usr/local/lib/vm-guest.py"
    install -D -m 0644 tests_vm/guest.service "$tree/etc/systemd/system/vm-guest.service"
    mkdir -p "$tree/etc/systemd/system/multi-user.target.wants"
    ln -sf ../vm-guest.service "$tree/etc/systemd/system/multi-user.target.wants/vm-guest.service"
    # Tests start their own, and a terminal on the console would hang up the kernel's messages.
    local unit
    for unit in {rabbitmq-server,haproxy,radvd,conntrackd,openvswitch-switch,ovs-vswitchd,ovsdb-server,epmd}.service epmd.socket \
        {serial-getty@ttyS0,getty@tty1,getty-static,e2scrub_reap}.service \
        {apt-daily,apt-daily-upgrade,e2scrub_all,dpkg-db-backup,fstrim}.timer; do
        ln -sf /dev/null "$tree/etc/systemd/system/$unit"
    done
}

make_disk() {
    say "make install, as README says, and a disk of it"
    put_checkout
    configure
    quietly inside "$tree" "cd $place; make install EXTRAS=neutron,ovs"
    cp -L "$tree"/boot/vmlinuz-* "$folder/kernel"
    cp -L "$tree"/boot/initrd.img-* "$folder/initrd"
    rm -f "$folder/disk"
    truncate -s 6G "$folder/disk.new"
    quietly mkfs.ext4 -q -E lazy_itable_init=1 -d "$tree" "$folder/disk.new"
    mv "$folder/disk.new" "$folder/disk"
}

base_stamp="$suite"
tree_stamp=$({ echo "$suite $checkout"; readme; cat bindep.txt pyproject.toml $here tools/venv.sh tools/system-packages.sh; } |
    sha256sum | cut -c1-64)
if [ "$(cat "$folder/base.stamp" 2>/dev/null)" != "$base_stamp" ]; then
    rm -f "$folder"/*.stamp
    make_base "$suite" "$folder/base"
    echo "$base_stamp" >"$folder/base.stamp"
fi
if [ "$(cat "$folder/tree.stamp" 2>/dev/null)" != "$tree_stamp" ]; then
    rm -f "$folder/tree.stamp"
    make_tree
    echo "$tree_stamp" >"$folder/tree.stamp"
fi
make_disk
