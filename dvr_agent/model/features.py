"""The values of the objects that L3 agent extensions act on: port forwardings, QoS policies, NDP proxies, helpers.

In Neutron they are versioned objects, which no router document contains as a whole; a document's envelope has them
beside the router.  ``feature_objects`` makes these values, ``Router`` has them, ``desired`` uses them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address


@dataclass(frozen=True, slots=True, order=True)
class PortRange:
    """Transport ports from ``first`` to ``last``, both included."""

    first: int
    last: int

    @property
    def size(self) -> int:
        """Number of ports."""
        return self.last - self.first + 1

    @property
    def text(self) -> str:
        """One port, or both ends with a colon, as Neutron writes ranges."""
        return str(self.first) if self.first == self.last else f"{self.first}:{self.last}"

    def overlaps(self, other: PortRange) -> bool:
        """True if a port is in both ranges."""
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True, slots=True)
class ForwardingIp:
    """A floating IP that is associated with no port: port forwardings use it.

    :ivar network_id: of the external network; None if only a port forwarding names the floating IP
    :ivar qos_policy_id: its own QoS policy
    """

    id: str
    address: IPv4Address
    network_id: str | None = None
    qos_policy_id: str | None = None


@dataclass(frozen=True, slots=True)
class PortForwarding:
    """Ports of a floating IP that lead to ports of one fixed address.

    :ivar protocol: ``tcp``, ``udp``, ``sctp`` or ``dccp``
    :ivar external: ports of the floating IP
    :ivar internal: ports of the fixed address: as many, in the same order, or one for all
    """

    id: str
    floating_ip_id: str
    address: IPv4Address
    fixed_address: IPv4Address
    protocol: str
    external: PortRange
    internal: PortRange


@dataclass(frozen=True, slots=True)
class BandwidthLimit:
    """A bandwidth limit of one direction.

    :ivar kbps: kbit/s
    :ivar burst: kbit that may pass at once
    """

    kbps: int
    burst: int


@dataclass(frozen=True, slots=True)
class QosPolicy:
    """A QoS policy: its first bandwidth limit of each direction, as seen from the instance."""

    id: str
    egress: BandwidthLimit | None = None
    ingress: BandwidthLimit | None = None


@dataclass(frozen=True, slots=True)
class NdpProxy:
    """An internal IPv6 address that neighbours in the external network are to reach.

    :ivar port_id: the port that has the address
    :ivar host: host that the port is bound to; empty: none; None: not known
    :ivar agent_mode: of the L3 agent on that host; empty: there is none; None: not known
    """

    id: str
    port_id: str
    address: IPv6Address
    host: str | None = None
    agent_mode: str | None = None


@dataclass(frozen=True, slots=True, order=True)
class ConntrackHelper:
    """A helper of connection tracking for the connections to one port.

    :ivar protocol: ``tcp``, ``udp``, ``sctp`` or ``dccp``
    :ivar helper: name of the helper in the kernel
    """

    protocol: str
    port: int
    helper: str


@dataclass(frozen=True, slots=True)
class Features:
    """The objects of a router that extensions act on.  None: not known, so nothing of them may be changed.

    :ivar forwarding_ips: floating IPs of the port forwardings; of those that the document lists where these are unknown
    :ivar not_current: keys of lists that the server could not be asked for lately: they have what was known before
    :ivar qos_policies: QoS policies that a floating IP or the gateway of the router may name
    :ivar gateway_qos_policy_id: QoS policy of the gateway's IPv4 addresses
    """

    forwarding_ips: tuple[ForwardingIp, ...] = ()
    port_forwardings: tuple[PortForwarding, ...] | None = ()
    qos_policies: tuple[QosPolicy, ...] | None = ()
    gateway_qos_policy_id: str | None = None
    enable_ndp_proxy: bool = False
    ndp_proxies: tuple[NdpProxy, ...] | None = ()
    conntrack_helpers: tuple[ConntrackHelper, ...] = ()
    not_current: frozenset[str] = frozenset()

    def qos_policy(self, policy_id: str | None) -> QosPolicy | None:
        """Return a QoS policy; None if there is none of this id."""
        return next((one for one in self.qos_policies or () if one.id == policy_id), None)


NO_FEATURES = Features()
"""Of a router without such objects."""


def forwarding_ips_in_use(
    listed: Iterable[ForwardingIp], forwardings: Iterable[PortForwarding]
) -> tuple[ForwardingIp, ...]:
    """Return the floating IPs that port forwardings use, by address.

    The forwardings decide: they come apart from the document, which may list a floating IP later or longer than that.
    """
    known = {one.id: one for one in listed}
    found = {one.floating_ip_id: ForwardingIp(one.floating_ip_id, one.address) for one in forwardings}
    return tuple(sorted((known.get(key, one) for key, one in found.items()), key=lambda one: int(one.address)))
