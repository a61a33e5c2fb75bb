"""What the desired state needs to know beyond the document: values that were handed out on this host."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256

from dvr_agent.desired.allocation import LinkLocalPair
from dvr_agent.desired.names import FIP_TO_ROUTER, ROUTER_TO_FIP


@dataclass(frozen=True, slots=True)
class FipLink:
    """The veth pair between a router's namespace and the fip namespace.

    MAC addresses are the kernel's where the pair exists, else made of the router id (:func:`generated_mac`).
    """

    pair: LinkLocalPair
    rfp_mac: str
    fpr_mac: str


@dataclass(frozen=True, slots=True)
class Facts:
    """Host-wide allocations of one router.

    :ivar link: None if the router has no link to a fip namespace
    :ivar priorities: (floating IP, rule priority) for each FIP bound here, sorted
    :ivar conceded: subnets in the external address scope whose route in the fip namespace another router holds
    :ivar marks: (address scope, mark) of the scopes, where marks other than ours are in use; sorted
    """

    link: FipLink | None = None
    priorities: tuple[tuple[str, int], ...] = field(default=())
    marks: tuple[tuple[str, int], ...] = ()
    conceded: tuple[str, ...] = ()


def new_link(router_id: str, pair: LinkLocalPair) -> FipLink:
    """The link as it is made when there is none in the kernel yet."""
    return FipLink(pair, generated_mac(ROUTER_TO_FIP, router_id), generated_mac(FIP_TO_ROUTER, router_id))


def generated_mac(prefix: str, router_id: str) -> str:
    """A locally administered unicast MAC that depends on nothing but the router: stable over restarts."""
    digest = sha256(f"{prefix}{router_id}".encode()).digest()
    return ":".join(f"{byte:02x}" for byte in (digest[0] & 0xFC | 0x02, *digest[1:6]))
