"""Connection tracking and address translation of one namespace (net/netfilter/nf_conntrack_core.c, nf_nat_core.c)."""

from __future__ import annotations

from dvr_agent.trace.packet import Connection, Packet, Tuple

UNTRACKED = "UNTRACKED"
NEW, ESTABLISHED = "NEW", "ESTABLISHED"


class Tracker:
    """The connections of one namespace that the traced packet, or the one that it answers, has made.

    :param connections: grows with each packet that belongs to none
    """

    def __init__(self, connections: list[Connection]) -> None:
        self._connections = connections

    def find(self, head: Tuple) -> tuple[Connection, str, bool]:
        """Return the connection of a packet, its state, and whether the packet is an answer."""
        for one in self._connections:
            if one.end.inverted() == head:
                return one, ESTABLISHED, True
            if one.begin == head:
                return one, NEW, False
        made = Connection(head, head)
        self._connections.append(made)
        return made, NEW, False


def translate_known(packet: Packet, connection: Connection, is_answer: bool, kind: str) -> Packet:
    """Return the packet with the translation that its connection has already.

    :param kind: ``DNAT`` before routing (and for what the namespace sends), ``SNAT`` after it
    """
    goal = connection.begin.inverted() if is_answer else connection.end
    # The answer's destination is what SNAT made of the source, and the other way round.
    undone = {"DNAT": "SNAT", "SNAT": "DNAT"}[kind] if is_answer else kind
    if undone not in connection.translated:
        return packet
    if kind == "DNAT":
        return packet.with_head(dst=goal.dst, dport=goal.dport)
    return packet.with_head(src=goal.src, sport=goal.sport)


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
