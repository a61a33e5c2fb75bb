"""Make, repair and remove the devices of ports, for both drivers; convert errors of the kernel layer."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager

from dvr_agent.attach.outer_ends import Device, ipv6_switch, tap_name
from dvr_agent.errors import AttachError, KernelError
from dvr_agent.kernel import job_sockets, sysctl
from dvr_agent.kernel.api import WriteCounters
from dvr_agent.kernel.netlink.handler import NO_DEVICE
from dvr_agent.kernel.netlink.link import PeerEnd, add_veth, delete_links, set_link
from dvr_agent.kernel.netlink.message import Request
from dvr_agent.kernel.netlink.transport import NetlinkSocket
from dvr_agent.kernel.netns import open_namespace
from dvr_agent.state.link import Port
from dvr_agent.state.sysctl import Sysctl

_LIMITS = {errno.EXFULL: "the bridge has 1,023 ports, as many as Linux allows"}
"""Error number → which limit of the kernel is reached; it says no more than that (BR_MAX_PORTS, net/bridge)."""
HOST = ""
"""Name of the namespace that the calling thread is in, the host's."""


def host_socket(counters: WriteCounters) -> AbstractContextManager[NetlinkSocket]:
    """Return a netlink socket in the calling thread's namespace, for a ``with`` block."""
    return job_sockets.netlink(HOST, counters)


def make_pairs(inside: NetlinkSocket, ports: Sequence[Port], tolerate: frozenset[int] = frozenset()) -> bool:
    """Make a veth pair for each port: the inner end up, the outer one ``tap…`` in the thread's own namespace, down.

    :returns: False if the kernel refused one of them in a tolerated way
    """
    if not ports:
        return True
    here = open_namespace(HOST)
    try:
        requests = [
            add_veth(port.device, port.mac, port.mtu, True, PeerEnd(tap_name(port.port_id), None, port.mtu, here), port)
            for port in ports
        ]
        return not inside.batch([request._replace(tolerate=tolerate) for request in requests])
    finally:
        os.close(here)


def repair(port: Port, inner: Mapping[str, Device]) -> Iterator[Request]:
    """Yield the request that repairs an inner end, if it differs from its port."""
    info = inner[port.device].info
    if (info.mac, info.mtu, info.up) != (port.mac, port.mtu, True):
        yield set_link(
            port.device,
            mac=port.mac if info.mac != port.mac else None,
            mtu=port.mtu if info.mtu != port.mtu else None,
            up=None if info.up else True,
            what=port,
        )


def switch_ipv6_off(names: Iterable[str], counters: WriteCounters) -> None:
    """Make devices in the thread's own namespace layer 2 only; a kernel without IPv6 has no such parameter."""
    sysctl.write(HOST, [Sysctl(ipv6_switch(name), "1") for name in names], counters, may_lack=True)


def delete(sock: NetlinkSocket, names: Sequence[str]) -> None:
    """Remove links that are there."""
    sock.batch(delete_links([(name, "") for name in names], NO_DEVICE))


@contextlib.contextmanager
def attach_errors() -> Iterator[None]:
    """Convert errors of the kernel layer to :class:`AttachError`."""
    try:
        yield
    except AttachError:
        raise
    except KernelError as exc:
        raise AttachError(exc.namespace, exc.what, exc.code, exc.hint or _LIMITS.get(exc.code, "")) from exc
