#!/usr/bin/env bash
# Builds the RPM package with what Debian has of rpm, and checks the spec: tools/rpm.sh     (result: build/rpm)
#
# The distribution that the spec is for has macros that Debian's rpm lacks; those used here stand in for them.  --nodeps:
# what BuildRequires names are Debian packages here.
set -euo pipefail
cd "$(dirname "$0")/.."
top=$PWD/build/rpm
version=$(sed -n 's/^Version: *//p' packaging/dvr-agent.spec)

say() { printf '==> %s\n' "$*"; }

rm -rf "$top"
mkdir -p "$top"/{SOURCES,BUILD,RPMS}
git ls-files -z --cached --others --exclude-standard |
    while IFS= read -r -d '' name; do [ ! -e "$name" ] || printf '%s\0' "$name"; done |
    tar --create --gzip --null --files-from=- --transform "s|^|dvr-agent-$version/|" --file "$top/SOURCES/dvr-agent-$version.tar.gz"

say "rpmbuild"
# Debian's Python installs into /usr/local otherwise.
DEB_PYTHON_INSTALL_LAYOUT=deb_system PAGES_PYTHON=/usr/bin/python3 rpmbuild -bb --nodeps --define "_topdir $top" \
    --define "_prefix /usr" --define "python3 /usr/bin/python3" \
    --define "python3_sitelib /usr/lib/python3/dist-packages" \
    --define "pyproject_wheel %{python3} -m pip wheel --no-index --no-deps --no-build-isolation -w wheels ." \
    --define "pyproject_install %{python3} -m pip install --no-index --no-deps --no-compile --ignore-installed --root %{buildroot} --prefix /usr wheels/*.whl" \
    --define "_unitdir /usr/lib/systemd/system" --define "systemd_post() :" --define "systemd_preun() :" \
    --define "systemd_postun_with_restart() :" --define "sysusers_create_compat() :" \
    packaging/dvr-agent.spec >"$top/log" 2>&1 || { tail -n 40 "$top/log" >&2; exit 1; }

say "rpmlint"
rpmlint --config packaging/rpmlint.toml packaging/dvr-agent.spec "$top"/RPMS/noarch/*.rpm
echo "==> $(echo "$top"/RPMS/noarch/*.rpm)"
