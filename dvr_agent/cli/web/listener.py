"""Opens the socket on which the page is served: on loopback, or not at all."""

from __future__ import annotations

import re
import socket
from ipaddress import ip_address
from typing import NamedTuple

from oslo_config import cfg

from dvr_agent.errors import ConfigError

DEFAULT = "127.0.0.1:9699"
EXPECTED = f"a loopback address and a port, such as {DEFAULT} or [::1]:9699; other hosts reach the page by ssh -L"
_LISTEN = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<four>[0-9.]+)):(?P<port>\d{1,5})")


_PROBE_SECONDS = 2.0


class Address(NamedTuple):
    """A loopback address and a TCP port; port 0 is any that is free."""

    ip: str
    port: int

    def __str__(self) -> str:
        return f"[{self.ip}]:{self.port}" if ":" in self.ip else f"{self.ip}:{self.port}"


def parse_address(text: str) -> Address:
    """Return the address in a text.

    :raises ValueError: it is no loopback address with a port
    """
    match = _LISTEN.fullmatch(text)
    if match is not None and int(match["port"]) < 1 << 16:
        address = ip_address(match["six"] or match["four"])
        if address.is_loopback:
            return Address(str(address), int(match["port"]))
    raise ValueError(text)


def configured_address(conf: cfg.ConfigOpts) -> Address | None:
    """Return the address in ``[web] listen``; None: it is not set.

    :raises ConfigError: it is no loopback address with a port
    """
    text = conf.web.listen
    try:
        return parse_address(text) if text else None
    except ValueError as exc:
        raise ConfigError(f"[web] listen = {text}: expected {EXPECTED}") from exc


def open_listener(wanted: Address) -> tuple[socket.socket, Address]:
    """Listen on an address; returns the socket, and the address with the port that it got.

    :raises ConfigError: it is in use, or may not be used
    """
    listener = socket.socket(socket.AF_INET6 if ":" in wanted.ip else socket.AF_INET)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((wanted.ip, wanted.port))
        listener.listen()
    except OSError as exc:
        listener.close()
        raise ConfigError(f"[web] listen = {wanted}: {exc.strerror} (does dvrctl web run already?)") from exc
    return listener, Address(wanted.ip, listener.getsockname()[1])


def is_served(address: Address) -> bool:
    """Return True if a process accepts connections on an address."""
    try:
        socket.create_connection(address, _PROBE_SECONDS).close()
    except OSError:
        return False
    return True
