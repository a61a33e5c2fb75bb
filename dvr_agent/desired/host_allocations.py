"""Values that this host allocated to a router, and that the desired state depends on.

Made by ``reconcile`` from the allocators, the kernel and the last claims; see "host allocations" in the glossary.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256

from dvr_agent.desired.allocation import LinkLocalPair
from dvr_agent.desired.host_view import MissingHelper
from dvr_agent.desired.names import FIP_TO_ROUTER, ROUTER_TO_FIP
from dvr_agent.state.filter import FilterRule


@dataclass(frozen=True, slots=True)
class FipPair:
    """The veth pair between a router's namespace and the fip namespace.

    MAC addresses are the kernel's where the pair exists, else hashes of the router id (:func:`generated_mac`).

    :ivar subnet: its /31
    :ivar rfp_mac: MAC address of the router's end
    :ivar fpr_mac: MAC address of the fip namespace's end
    """

    subnet: LinkLocalPair
    rfp_mac: str
    fpr_mac: str


@dataclass(frozen=True, slots=True)
class HostAllocations:
    """Values that this host has allocated to one router.

    :ivar pair: None if the router has no pair to a fip namespace
    :ivar priorities: (floating IP, rule priority) for each FIP bound here, sorted
    :ivar conceded: subnets in the external address scope whose route in the fip namespace belongs to another router
    :ivar without_ipv6: namespaces in which IPv6 is off, and the parameter that says so
    :ivar without_link_locals: namespaces with a device that lacks its link-local address, though VRRP does not own it
    :ivar forwardings: rules in the kernel for port forwardings; empty unless the objects are not known: then they stay
    :ivar is_master: this host is the master of the HA router's virtual router
    :ivar marks: (address scope, mark), sorted; empty unless connections carry marks of neutron-l3-agent
    :ivar missing_helpers: conntrack helpers of the router that this kernel lacks
    :ivar found_proxies: (namespace, address) of the proxied neighbours found, sorted; empty if the router's are known
    """

    pair: FipPair | None = None
    priorities: tuple[tuple[str, int], ...] = field(default=())
    marks: tuple[tuple[str, int], ...] = ()
    conceded: tuple[str, ...] = ()
    without_ipv6: frozenset[tuple[str, str]] = frozenset()
    without_link_locals: frozenset[str] = frozenset()
    forwardings: tuple[FilterRule, ...] = ()
    is_master: bool = False
    missing_helpers: frozenset[MissingHelper] = frozenset()
    found_proxies: tuple[tuple[str, str], ...] = ()

    @property
    def ipv6_off(self) -> dict[str, str]:
        """Namespace without IPv6 → the parameter that says so."""
        return dict(self.without_ipv6)


def new_fip_pair(router_id: str, subnet: LinkLocalPair) -> FipPair:
    """Make the pair of a router that has none in the kernel yet."""
    return FipPair(subnet, generated_mac(ROUTER_TO_FIP, router_id), generated_mac(FIP_TO_ROUTER, router_id))


def generated_mac(prefix: str, router_id: str) -> str:
    """Compute a locally administered unicast MAC address from the router id: the same after a restart."""
    digest = sha256(f"{prefix}{router_id}".encode()).digest()
    return ":".join(f"{byte:02x}" for byte in (digest[0] & 0xFC | 0x02, *digest[1:6]))
