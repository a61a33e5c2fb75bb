"""Read a host as :class:`dvr_agent.trace.world.World`: all devices at once, a namespace as a whole when it is met."""

from __future__ import annotations

from collections.abc import Mapping

from dvr_agent.errors import KernelError, NamespaceGoneError
from dvr_agent.kernel import sysctl
from dvr_agent.kernel.api import WriteCounters
from dvr_agent.kernel.iptables.reader import TableReader
from dvr_agent.kernel.namespaces import RealNamespaces
from dvr_agent.kernel.netlink.link import decode_brief, dump_links
from dvr_agent.kernel.netlink.transport import NetlinkSocket
from dvr_agent.kernel.netns import entered
from dvr_agent.kernel.observe import observe_limits
from dvr_agent.kernel.survey.devices import read_devices
from dvr_agent.kernel.survey.routing import read_fdb, read_neighbours, read_routes, read_rules
from dvr_agent.kernel.survey.tables import read_legacy, read_nft
from dvr_agent.state.limit import Limit
from dvr_agent.state.ownership import Ownership
from dvr_agent.trace.ends import vanished
from dvr_agent.trace.world import DEVICE_SYSCTLS, SYSCTLS, Device, Namespace, World

_ALL_DEVICES = Ownership(limited=("",))
"""Claims the bandwidth limits of every device."""


def survey_host() -> World:
    """Read the devices of all namespaces of this host; the rest of each namespace is read when it is needed.

    :raises KernelError: the kernel could not be asked
    """
    namespaces = RealNamespaces(WriteCounters())
    reader = TableReader(namespaces)
    devices = read_devices(["", *namespaces.list()])

    def load(name: str) -> Namespace:
        try:
            return _read(reader, name, devices.get(name, {}))
        except NamespaceGoneError:
            raise vanished(name) from None

    return World(devices, load)


def _read(reader: TableReader, name: str, devices: Mapping[str, Device]) -> Namespace:
    with NetlinkSocket.open(name, None) as sock:
        names = {link.ifindex: link.name for link in map(decode_brief, sock.dump(dump_links()))}
        routes, rules = read_routes(sock, names), read_rules(sock)
        neighbours = read_neighbours(sock, names)
        bridged = any(device.kind == "bridge" for device in devices.values())
        fdb = read_fdb(sock, names) if bridged else frozenset()
    return Namespace(
        name,
        devices,
        routes,
        rules,
        neighbours,
        _sysctls(name, devices),
        (*read_legacy(reader, name), *read_nft(name)),
        _limits(name),
        fdb,
    )


def _sysctls(name: str, devices: Mapping[str, Device]) -> dict[str, str]:
    keys = [*SYSCTLS, *(key.format(device) for device in devices for key in DEVICE_SYSCTLS)]
    paths = sysctl.paths_of(name, keys)
    with entered(name):
        values = sysctl.read_here(paths)
    return {one.key: one.value for one in sysctl.as_values(name, keys, values)}


def _limits(name: str) -> tuple[Limit, ...]:
    try:
        return tuple(sorted(observe_limits(name, _ALL_DEVICES)))
    except KernelError:  # no nf_tables: no limits
        return ()
