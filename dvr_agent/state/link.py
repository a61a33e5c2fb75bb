"""Network devices inside a namespace, and their origin: attach driver or veth pair."""

from __future__ import annotations

from operator import attrgetter
from typing import NamedTuple

from dvr_agent.state.kind import Kind


class Port(NamedTuple):
    """A device that an attach driver connects to a layer 2 network."""

    device: str
    """Name inside the namespace, e.g. ``qr-7fb6853b-e0``."""
    port_id: str
    """Neutron port UUID, canonical text."""
    network_id: str
    """Neutron network UUID, canonical text."""
    mac: str
    mtu: int
    distributed: bool = False
    """True for an interface of a distributed router: many hosts have it, and layer 2 agents treat it differently."""

    @property
    def text(self) -> str:
        """The port in one line."""
        return f"port {self.device} network {self.network_id} address {self.mac} mtu {self.mtu}"


class Veth(NamedTuple):
    """A device made as one end of a veth pair whose other end lies in ``peer_namespace``."""

    peer_namespace: str
    peer_name: str
    peer_mac: str


class VethPeer(NamedTuple):
    """A device that appears when its other end, a :class:`Veth` in ``peer_namespace``, is made."""

    peer_namespace: str
    peer_name: str


Origin = Port | Veth | VethPeer | None


class Link(NamedTuple):
    """A network device.  Identity: its name.  ``origin`` is not compared; it is None when read from the kernel."""

    name: str
    mac: str
    """Lower-case, colons."""
    mtu: int
    up: bool = True
    origin: Origin = None

    @property
    def text(self) -> str:
        """The link in iproute2's terms."""
        return f"link {self.name} address {self.mac} mtu {self.mtu}" + ("" if self.up else " down")


def same_link(one: Link, other: Link) -> bool:
    """True if name, MAC address, MTU and state are equal; ``origin`` is not compared."""
    return one[:4] == other[:4]


LINK_KIND = Kind(
    Link,
    name="link",
    field="links",
    build_rank=0,
    remove_rank=40,
    owned=lambda ownership, link: ownership.owns_device(link.name),
    devices=lambda link: (link.name,),
    key=attrgetter("name"),
    same=same_link,
)
