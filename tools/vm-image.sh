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
# Packages come from where this machine has them: its settings for apt and pip hold inside for the time being, by mounts
# that no other process sees.  base and tree have a stamp; while it fits, they are kept.
set -euo pipefail
cd "$(dirname "$0")/.."
checkout=$PWD
folder=$(mkdir -p "${1:-.vm}" && cd "${1:-.vm}" && pwd -P)
suite=${VM_SUITE:-bookworm}
tree=$folder/tree
place=/root/dvr-agent
here=tools/vm-image.sh

say() { printf '==> %s\n' "$*"; }
die() { printf 'vm-image: %s\n' "$*" >&2; exit 1; }

[ "$(id -u)" -eq 0 ] || die "must be run as root (debootstrap)"

log=$folder/log
quietly() {
    if ! "$@" >"$log" 2>&1 </dev/null; then
        tail -n 40 "$log" >&2
        die "failed: $* (above: the end of its output)"
    fi
}

# Where this machine gets the release from: the first repository of that name, by apt's own account.
mirror() {
    # $(…) is apt's notation.
    # shellcheck disable=SC2016
    apt-get indextargets --format '$(CODENAME) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' |
        awk -v suite="$suite" '$1 == suite && $2 == "main" { print $3; exit }'
}

proxy() {
    local value=
    eval "$(apt-config shell value Acquire::http::Proxy)"
    printf '%s' "$value"
}

make_base() {
    local from
    from=$(mirror)
    if [ -z "$from" ]; then # lists may never have been fetched
        quietly apt-get update
        from=$(mirror)
    fi
    [ -n "$from" ] || die "no apt source of this machine has $suite main"
    say "debootstrap $suite"
    rm -rf "$folder/base"
    http_proxy=${http_proxy:-$(proxy)} quietly debootstrap --variant=minbase "$suite" "$folder/base" "$from"
    # What debootstrap copied from this machine, and packages that are installed by now.
    rm -f "$folder/base/etc/resolv.conf" "$folder/base"/var/cache/apt/archives/*.deb
}

# The outside's settings of pip as variables, one NAME=VALUE a line.  Paths name the outside's files, which are in /mnt.
pip_settings() {
    .venv/bin/python - <'/dev/null' "$@" <<'PYTHON'
import re, shlex, subprocess, sys
said = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True).stdout
found = {}
for line in said.splitlines():
    key, _, value = line.partition("=")
    section, _, name = key.partition(".")
    if section in ("global", "install", ":env:") and (section == ":env:" or name not in found):
        found[name] = value.strip()[1:-1].replace("\\n", " ")
for name, value in found.items():
    outside = re.sub(r"(^|\s|file://)(/[^\s]+)", r"\1/mnt\2", value)
    print(f"PIP_{name.upper().replace('-', '_')}={' '.join(outside.split())}")
PYTHON
}

# inside TREE SCRIPT: runs it as root of the tree, in namespaces of its own, with the outside's root in /mnt (to read only), its apt
# settings and its name resolution.  Nothing of it is left in the tree.
inside() {
    local inner=$1 script=$2 variables status=0
    mapfile -t variables < <(pip_settings; env | grep -E '^(no_proxy|https?_proxy|NO_PROXY|HTTPS?_PROXY)=' || true)
    unshare --mount --pid --fork --kill-child --uts --ipc -- bash -euc '
        tree=$1 script=$2; shift 2
        mount --make-rprivate /
        mount --bind "$tree" "$tree"
        cd "$tree"
        mount -t proc proc proc
        mount -t sysfs -o ro sysfs sys
        mount --rbind /dev dev
        mount -t tmpfs -o mode=755 run run
        mount -t tmpfs tmp tmp
        mkdir -p usr/local/sbin
        mount --bind -o ro /etc/apt etc/apt
        mount --bind -o ro /usr/share/keyrings usr/share/keyrings
        cp -L /etc/resolv.conf run/resolv.conf
        touch etc/resolv.conf
        mount --bind run/resolv.conf etc/resolv.conf
        # The outside may trust an authority of its own.
        [ ! -e /etc/ssl/certs/ca-certificates.crt ] || cp -L /etc/ssl/certs/ca-certificates.crt run/outside.crt
        printf "%s\n" "Acquire::https::CAInfo \"/run/outside.crt\";" >run/apt.conf
        # No service of a package is started here.
        printf "%s\n" "#!/bin/sh" "exit 101" >run/policy-rc.d
        chmod 755 run/policy-rc.d
        touch usr/sbin/policy-rc.d
        mount --bind run/policy-rc.d usr/sbin/policy-rc.d
        pivot_root . mnt
        mount -o remount,bind,ro /mnt
        cd /root
        exec env -i HOME=/root LANG=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
            APT_CONFIG=/run/apt.conf SSL_CERT_FILE=/run/outside.crt REQUESTS_CA_BUNDLE=/run/outside.crt CI=true \
            DEBIAN_FRONTEND=noninteractive "$@" PIP_CERT=/run/outside.crt bash -euc "$script"
    ' bash "$inner" "$script" "${variables[@]}" || status=$?
    rm -f "$inner/usr/sbin/policy-rc.d" "$inner/etc/resolv.conf"
    return $status
}

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
    for unit in {rabbitmq-server,haproxy,radvd,openvswitch-switch,ovs-vswitchd,ovsdb-server,epmd}.service epmd.socket \
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
    make_base
    echo "$base_stamp" >"$folder/base.stamp"
fi
if [ "$(cat "$folder/tree.stamp" 2>/dev/null)" != "$tree_stamp" ]; then
    rm -f "$folder/tree.stamp"
    make_tree
    echo "$tree_stamp" >"$folder/tree.stamp"
fi
make_disk
