"""Make the requests that add and change links, which are made in several ways (``Link.origin``).

Used by ``kernel/apply.py``, in the place of a handler: a new veth pair needs a descriptor of its peer's namespace.
"""

from __future__ import annotations

import os

from dvr_agent.kernel.netlink.link import PeerEnd, add_veth, set_link
from dvr_agent.kernel.netlink.message import Request
from dvr_agent.kernel.netns import open_namespace
from dvr_agent.state.diff import Action, Change
from dvr_agent.state.link import Link, Veth, VethPeer


class PeerNamespaces:
    """Descriptors of the namespaces in which the other ends of new veth pairs are made."""

    def __init__(self) -> None:
        self._descriptors: dict[str, int] = {}

    def descriptor(self, namespace: str) -> int:
        """Open a namespace, once.

        :raises NamespaceGoneError: it does not exist
        """
        fd = self._descriptors.get(namespace)
        if fd is None:
            fd = self._descriptors[namespace] = open_namespace(namespace)
        return fd

    def close(self) -> None:
        """Close all descriptors."""
        for fd in self._descriptors.values():
            os.close(fd)
        self._descriptors.clear()


def link_request(link: Link, change: Change, peers: PeerNamespaces) -> Request:
    """Make the request that adds or changes a link.

    :raises ValueError: ADD of a link that its attach driver makes
    """
    origin = link.origin
    if change.action is Action.CHANGE:
        return _changed_link(link, change.old)
    if isinstance(origin, VethPeer):
        return set_link(link.name, up=link.up, mac=link.mac, mtu=link.mtu, what=link)
    if isinstance(origin, Veth):
        peer = PeerEnd(origin.peer_name, origin.peer_mac, link.mtu, peers.descriptor(origin.peer_namespace))
        what = f"{link.text} (veth, peer {origin.peer_name} in {origin.peer_namespace or '(host)'})"
        return add_veth(link.name, link.mac, link.mtu, link.up, peer, what)
    raise ValueError(f"a {type(origin).__name__} is made by its attach driver: {link.text}")


def _changed_link(link: Link, old: object) -> Request:
    """Set the properties that differ: a wrong MTU does not touch the MAC address, whose change flushes neighbours."""
    was = old if isinstance(old, Link) else None
    return set_link(
        link.name,
        up=link.up if was is None or was.up != link.up else None,
        mac=link.mac if was is None or was.mac != link.mac else None,
        mtu=link.mtu if was is None or was.mtu != link.mtu else None,
        what=link,
    )
