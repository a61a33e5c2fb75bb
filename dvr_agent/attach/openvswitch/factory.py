"""Make the driver by the configuration (``[OVS]``, ``ovs_use_veth``).

The driver connects at its first call, so that the agent can start before Open vSwitch.
"""

from __future__ import annotations

import ipaddress
import ssl
from pathlib import Path
from typing import TYPE_CHECKING

from dvr_agent import named_files
from dvr_agent.attach.openvswitch import library
from dvr_agent.errors import ConfigError
from dvr_agent.kernel.api import Kernel
from dvr_agent.settings import OvsSettings

if TYPE_CHECKING:
    from dvr_agent.attach.openvswitch.driver import OpenVSwitchDriver

_OPTION = "[OVS] ovsdb_connection"
_SSL_OPTIONS = ("ssl_key_file", "ssl_cert_file", "ssl_ca_cert_file")


def open_openvswitch(settings: OvsSettings, kernel: Kernel) -> OpenVSwitchDriver:
    """Make the driver, not connected yet.  The calling thread's namespace is that of Open vSwitch.

    :raises ConfigError: the extra ``dvr-agent[ovs]`` is missing, the connection is malformed, or a file for ssl is
        missing or cannot be used
    """
    connection = check_connection(settings.ovsdb_connection)
    by_ssl = any(remote.startswith("ssl:") for remote in connection.split(","))
    files = _ssl_files(settings) if by_ssl else None
    library.load(settings.ovsdb_debug)
    from dvr_agent.attach.openvswitch.connection import use_certificates
    from dvr_agent.attach.openvswitch.database import Database
    from dvr_agent.attach.openvswitch.driver import OpenVSwitchDriver

    if files is not None:
        use_certificates(*files)
    database = Database(connection, settings.integration_bridge, settings.ovsdb_timeout)
    return OpenVSwitchDriver(database, kernel.namespaces, kernel.counters, settings.ovs_use_veth)


def check_connection(text: str) -> str:
    """Check and return a connection: ``tcp:IP:PORT``, ``ssl:IP:PORT``, ``unix:PATH``, or several with commas.

    :raises ConfigError: saying what is wrong with it
    """
    remotes = [remote.strip() for remote in text.split(",")]
    for remote in remotes:
        kind, _, rest = remote.partition(":")
        if kind in ("tcp", "ssl"):
            _check_address(remote, rest)
        elif kind != "unix" or not rest.startswith("/"):
            raise ConfigError(f"{_OPTION} = {text!r}: expected tcp:IP:PORT, ssl:IP:PORT or unix:/PATH")
    return ",".join(remotes)


def _check_address(remote: str, rest: str) -> None:
    host, _, port = rest.rpartition(":")
    try:
        ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError as exc:
        raise ConfigError(f"{_OPTION} = {remote!r}: {host!r} is no IP address; names are not looked up") from exc
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ConfigError(f"{_OPTION} = {remote!r}: {port!r} is no port number")


def _ssl_files(settings: OvsSettings) -> tuple[str, str, str]:
    """Return the paths of key, certificate and authority, after loading them once.

    :raises ConfigError: one is not set, cannot be read, or is not what it should be
    """
    found = []
    for name in _SSL_OPTIONS:
        path = getattr(settings, name)
        if not path:
            raise ConfigError(f"[OVS] {name} is not set; an ssl connection to OVSDB needs {', '.join(_SSL_OPTIONS)}")
        if irregular := named_files.why_not_regular(path):
            raise ConfigError(f"[OVS] {name} = {path}: {irregular}: expected a regular file")
        try:
            Path(path).open("rb").close()
        except OSError as exc:
            raise ConfigError(f"[OVS] {name} = {path}: {exc.strerror}") from exc
        found.append(str(path))
    key, certificate, authority = found
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(authority)
    except ssl.SSLError as exc:
        raise ConfigError(f"[OVS] ssl_ca_cert_file = {authority}: {exc}") from exc
    try:
        context.load_cert_chain(certificate, key)
    except ssl.SSLError as exc:
        raise ConfigError(f"[OVS] ssl_cert_file = {certificate}, ssl_key_file = {key}: {exc}") from exc
    return key, certificate, authority
