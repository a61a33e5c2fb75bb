"""Connection tracking and address translation of one namespace (net/netfilter/nf_conntrack_core.c, nf_nat_core.c)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from dvr_agent.trace.packet import ICMP, ICMPV6, Connection, Packet, Tuple

UNTRACKED = "UNTRACKED"
NEW, ESTABLISHED, RELATED = "NEW", "ESTABLISHED", "RELATED"
Existing = Callable[[str, Tuple], Connection | None]
"""Returns the connection of a namespace that has a tuple in one of its directions; None for none."""


def no_connection(_namespace: str, _head: Tuple) -> None:
    """Find no connection: the traced packet is the first one of its connection."""


class Tracker:
    """The connections of one namespace that the traced packet, or the one that it answers, has met or made.

    :param connections: grows with each packet that belongs to none of them
    :param existing: finds a connection that the namespace has had before
    """

    def __init__(self, connections: list[Connection], existing: Callable[[Tuple], Connection | None]) -> None:
        self._connections, self._existing = connections, existing

    def find(self, head: Tuple) -> tuple[Connection, str, bool]:
        """Return the connection of a packet, its state, and whether the packet is an answer."""
        found = next((one for one in self._connections if head in (one.begin, one.end.inverted())), None)
        if found is None:
            found = self._existing(head) or Connection(head, head)
            self._connections.append(found)
        is_answer = head != found.begin
        return found, ESTABLISHED if is_answer else found.state, is_answer


def translate_known(packet: Packet, connection: Connection, is_answer: bool, kind: str) -> Packet:
    """Return the packet with the translation that its connection has already.

    :param kind: ``DNAT`` before routing (and for what the namespace sends), ``SNAT`` after it
    """
    goal = connection.begin.inverted() if is_answer else connection.end
    # The answer's destination is what SNAT made of the source, and the other way round.
    undone = {"DNAT": "SNAT", "SNAT": "DNAT"}[kind] if is_answer else kind
    if undone not in connection.translated:
        return packet
    if goal.protocol in (ICMP, ICMPV6):  # either translation sets the identifier (icmp_manip_pkt)
        head = packet.head._replace(sport=goal.sport)
    else:
        head = packet.head._replace(dport=goal.dport) if kind == "DNAT" else packet.head._replace(sport=goal.sport)
    return replace(packet, head=head._replace(dst=goal.dst) if kind == "DNAT" else head._replace(src=goal.src))


def decide(connection: Connection, kind: str, after: Packet | None) -> None:
    """Keep what the nat table decided about a connection.

    :param after: the translated packet, None: it is not translated
    """
    connection.decided.add(kind)
    if after is None:
        return
    head = after.head
    connection.translated.add(kind)
    if kind == "DNAT":
        connection.end = connection.end._replace(dst=head.dst, dport=head.dport)
    else:
        connection.end = connection.end._replace(src=head.src, sport=head.sport)
