# shellcheck shell=bash
# Trees of bare Debians, for scripts that build or try something in one; sourced by tools/vm-image.sh and tools/deb.sh.
#
# Packages come from where this machine has them: its settings for apt and pip hold inside for the time being, by mounts
# that no other process sees.  `quietly` writes to the file $log, which the caller sets.

say() { printf '==> %s\n' "$*"; }
die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }

quietly() {
    if ! "$@" >"$log" 2>&1 </dev/null; then
        tail -n 40 "$log" >&2
        die "failed: $* (above: the end of its output)"
    fi
}

# The release that this machine runs.
own_suite() { (. /etc/os-release && printf '%s' "$VERSION_CODENAME"); }

# Where this machine gets its own release from, and therefore others: the first repository of that name, by apt's account.
mirror() {
    # $(…) is apt's notation.
    # shellcheck disable=SC2016
    apt-get indextargets --format '$(CODENAME) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' |
        awk -v suite="$(own_suite)" '$1 == suite && $2 == "main" { print $3; exit }'
}

proxy() {
    local value=
    eval "$(apt-config shell value Acquire::http::Proxy)"
    printf '%s' "$value"
}

# apt_settings SUITE DIRECTORY: this machine's /etc/apt, with that release in place of its own.
apt_settings() {
    local own
    own=$(own_suite)
    cp -a /etc/apt/. "$2"
    chmod 755 "$2"
    [ "$own" = "$1" ] && return 0
    # Sources of others have no such release.
    find "$2"/sources.list* -type f ! -exec grep -qw "$own" {} \; -delete
    find "$2"/sources.list* -type f -exec sed -i "s/\b$own\b/$1/g" {} +
}

# make_base SUITE TREE: a Debian with nothing in it, as debootstrap leaves it.
make_base() {
    local suite=$1 base=$2 from
    from=$(mirror)
    if [ -z "$from" ]; then # lists may never have been fetched
        quietly apt-get update
        from=$(mirror)
    fi
    [ -n "$from" ] || die "no apt source of this machine has $(own_suite) main"
    say "debootstrap $suite"
    rm -rf "$base"
    http_proxy=${http_proxy:-$(proxy)} quietly debootstrap --variant=minbase "$suite" "$base" "$from"
    # What debootstrap copied from this machine, and packages that are installed by now.
    rm -f "$base/etc/resolv.conf" "$base"/var/cache/apt/archives/*.deb
}

# The outside's settings of pip as variables, one NAME=VALUE a line.  Paths name the outside's files, which are in /mnt.
pip_settings() {
    [ -x .venv/bin/python ] || return 0
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

# inside TREE SCRIPT: runs it as root of the tree, in namespaces of its own, with the outside's root in /mnt (to read
# only), its apt settings (with the name of the tree's release in place of its own) and its name resolution.  Nothing of it
# is left in the tree.
inside() {
    local inner=$1 script=$2 apt variables status=0
    apt=$(mktemp -d)
    apt_settings "$(. "$inner/etc/os-release" && printf '%s' "$VERSION_CODENAME")" "$apt"
    mapfile -t variables < <(pip_settings; env | grep -E '^(no_proxy|https?_proxy|NO_PROXY|HTTPS?_PROXY)=' || true)
    unshare --mount --pid --fork --kill-child --uts --ipc -- bash -euc '
        tree=$1 script=$2 apt=$3; shift 3
        mount --make-rprivate /
        mount --bind "$tree" "$tree"
        cd "$tree"
        mount -t proc proc proc
        mount -t sysfs -o ro sysfs sys
        mount --rbind /dev dev
        mount -t tmpfs -o mode=755 run run
        mount -t tmpfs tmp tmp
        mkdir -p usr/local/sbin
        mount --bind "$apt" etc/apt
        mount --bind -o ro /usr/share/keyrings usr/share/keyrings
        cp -L /etc/resolv.conf run/resolv.conf
        touch etc/resolv.conf
        mount --bind run/resolv.conf etc/resolv.conf
        # The outside may trust an authority of its own.
        [ ! -e /etc/ssl/certs/ca-certificates.crt ] || cp -L /etc/ssl/certs/ca-certificates.crt run/outside.crt
        # Settings that packages of the outside have put into /etc/apt are kept without a question; a tree can be made anew,
        # so nothing waits for the disk.
        printf "%s\n" "Acquire::https::CAInfo \"/run/outside.crt\";" "Acquire::Languages \"none\";" \
            "DPkg::Options {\"--force-confdef\"; \"--force-confold\"; \"--force-unsafe-io\";};" >run/apt.conf
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
    ' bash "$inner" "$script" "$apt" "${variables[@]}" || status=$?
    rm -rf "$apt"
    rm -f "$inner/usr/sbin/policy-rc.d" "$inner/etc/resolv.conf"
    return $status
}
