"""Requests that add, change and remove links, which come to be in several ways (see ``Link.origin``)."""

from __future__ import annotations

import os
from collections.abc import Sequence

from dvr_agent.kernel.netlink.handler import GONE
from dvr_agent.kernel.netlink.link import PeerEnd, add_veth, delete_group, delete_link, set_link
from dvr_agent.kernel.netlink.message import Request
from dvr_agent.kernel.netns import open_namespace
from dvr_agent.state.diff import Action, Change
from dvr_agent.state.link import Link, Veth, VethPeer

GROUP_TO_DELETE = 0x64767264
"""Link group ("dvrd") that collects links for removal; the agent puts links into it for no other purpose."""


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


def removal_requests(links: Sequence[Link]) -> list[Request]:
    """Make the requests that remove links: several by group, since the kernel then waits for RCU once, not for each."""
    if len(links) == 1:
        return [delete_link(links[0].name, links[0], GONE)]
    names = ", ".join(link.name for link in links)
    return [
        *(set_link(link.name, group=GROUP_TO_DELETE, what=link, tolerate=GONE) for link in links),
        delete_group(GROUP_TO_DELETE, f"links {names}", GONE),
    ]


def _changed_link(link: Link, old: object) -> Request:
    """Set only what differs, so that a wrong MTU does not touch the MAC address."""
    was = old if isinstance(old, Link) else None
    return set_link(
        link.name,
        up=link.up if was is None or was.up != link.up else None,
        mac=link.mac if was is None or was.mac != link.mac else None,
        mtu=link.mtu if was is None or was.mtu != link.mtu else None,
        what=link,
    )
