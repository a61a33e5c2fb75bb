#!/usr/bin/env bash
# Makes the disk of the virtual machine out of the tree of tools/vm-tree.sh: tools/vm-image.sh [DIRECTORY]   (default: .vm)
#
#   DIRECTORY/disk, kernel, initrd
#
# The checkout in it is this one, changes that are not committed included.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$(cd "${1:-.vm}" && pwd -P)
tree=$folder/tree
place=$tree/root/dvr-agent

printf '==> %s\n' "disk of the virtual machine"
# What git knows, and what it would add; the virtual environment that `make test` made stays.
find "$place" -mindepth 1 -maxdepth 1 ! -name .venv ! -name .git -exec rm -rf {} +
git ls-files -z --cached --others --exclude-standard |
    while IFS= read -r -d '' name; do [ ! -e "$name" ] || printf '%s\0' "$name"; done |
    tar --create --null --files-from=- | tar --extract --directory="$place" --no-same-owner

put() { install -D -m 0644 /dev/stdin "$tree/$1"; }
put etc/fstab <<<"/dev/vda / ext4 rw,errors=remount-ro 0 1"
put etc/hostname <<<node1
put etc/hosts <<<"127.0.0.1 localhost node1"
put etc/systemd/journald.conf.d/tests.conf <<<$'[Journal]\nStorage=persistent\nRateLimitBurst=0\nForwardToConsole=no'
install -D -m 0755 tests_vm/guest.py "$tree/usr/local/lib/vm-guest.py"
install -D -m 0644 tests_vm/guest.service "$tree/etc/systemd/system/vm-guest.service"
mkdir -p "$tree/etc/systemd/system/multi-user.target.wants"
ln -sf ../vm-guest.service "$tree/etc/systemd/system/multi-user.target.wants/vm-guest.service"
# Tests start their own, and a terminal on the console would hang up the kernel's messages.
for unit in serial-getty@ttyS0 getty@tty1 rabbitmq-server haproxy radvd openvswitch-switch ovs-vswitchd ovsdb-server \
    apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer e2scrub_reap dpkg-db-backup.timer fstrim.timer epmd epmd.socket; do
    case "$unit" in *.*) ;; *) unit=$unit.service ;; esac
    ln -sf /dev/null "$tree/etc/systemd/system/$unit"
done

cp -L "$tree"/boot/vmlinuz-* "$folder/kernel"
cp -L "$tree"/boot/initrd.img-* "$folder/initrd"
rm -f "$folder/disk"
truncate -s 6G "$folder/disk.new"
mkfs.ext4 -q -E lazy_itable_init=1 -d "$tree" "$folder/disk.new"
mv "$folder/disk.new" "$folder/disk"
