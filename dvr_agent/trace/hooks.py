"""The hooks of netfilter in one namespace: tables in the order of their priorities, connection tracking, translation.

Sources: include/uapi/linux/netfilter_ipv4.h (order), net/netfilter/nf_nat_core.c, nf_nat_redirect.c,
nf_nat_masquerade.c.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dvr_agent.state.filter import Dnat, Redirect, Snat
from dvr_agent.trace.addresses import family_of, ip_of, is_in, is_link_local
from dvr_agent.trace.chains import ChainWalk, NatTarget, Ruling
from dvr_agent.trace.ends import unknown
from dvr_agent.trace.filter_match import Passing
from dvr_agent.trace.filter_values import CONNTRACK, NAT_DST, NAT_SRC, Base, SourceRange, WholeTable
from dvr_agent.trace.packet import Connection, Hop, Packet, RuleAt
from dvr_agent.trace.tracking import UNTRACKED, Tracker, decide, translate_known
from dvr_agent.trace.world import Namespace, namespace_text

Record = Callable[[Hop], None]
TRACKING_HOOKS = ("PREROUTING", "OUTPUT")
"""Hooks at which a packet is looked up in the connection tracking table."""
SOURCE_HOOKS = ("POSTROUTING", "INPUT")
"""Hooks at which sources are translated; at the others destinations are."""


@dataclass(slots=True)
class Tracked:
    """A packet inside one namespace, with its connection.

    :ivar connection: None: it is not tracked, or not looked up yet
    :ivar state: empty before the lookup
    """

    packet: Packet
    iif: str = ""
    oif: str = ""
    connection: Connection | None = None
    state: str = ""
    is_answer: bool = False

    @property
    def passing(self) -> Passing:
        """The packet as rules see it."""
        return Passing(self.packet, self.iif, self.oif, self.connection, self.state)


class Hooks:
    """The hooks of a namespace.

    :param record: is called with each rule that matters
    :param remark: adds a note to the way
    """

    def __init__(self, namespace: Namespace, tracker: Tracker, record: Record, remark: Callable[[str], None]) -> None:
        self._namespace, self._tracker, self._record, self._remark = namespace, tracker, record, remark

    def run(self, hook: str, tracked: Tracked) -> None:
        """Take a packet through a hook; ``tracked`` is changed.

        :raises EndOfWay: it is dropped, or something is not understood
        """
        family = tracked.packet.family
        calls = [
            (base.priority, number, base, table)
            for number, table in enumerate(self._namespace.tables)
            if family in table.families
            for base in table.bases
            if base.hook == hook
        ]
        calls.sort(key=lambda call: call[:2])
        nat = [(base, table) for _priority, _number, base, table in calls if base.is_nat]
        pending: list[tuple[int, Callable[[], None]]] = []
        if hook in TRACKING_HOOKS:
            pending.append((CONNTRACK, lambda: self._track(hook, tracked)))
        if hook != "FORWARD":
            at = NAT_SRC if hook in SOURCE_HOOKS else NAT_DST
            pending.append((at, lambda: self._translate(hook, nat, tracked)))
        for priority, _number, base, table in calls:
            while pending and priority > pending[0][0]:
                pending.pop(0)[1]()
            if not base.is_nat:
                self._filter(hook, base, table, tracked)
        for _priority, step in pending:
            step()

    def _track(self, hook: str, tracked: Tracked) -> None:
        """Look the packet up, unless a rule said not to, or it has its connection from the loopback device."""
        if tracked.state:
            return
        tracked.connection, tracked.state, tracked.is_answer = self._tracker.find(tracked.packet.head)
        if tracked.connection.existing:
            text = f"existing connection {tracked.connection.text} ({tracked.state})"
            self._hop(f"conntrack {hook}", text, tracked.packet, tracked.packet)

    def _filter(self, hook: str, base: Base, table: WholeTable, tracked: Tracked) -> None:
        walk = ChainWalk(table, base.chain, tracked.passing, lambda ruling: self._report(hook, ruling, tracked))
        walk.run()
        tracked.packet = walk.passing.packet
        if walk.untracked and not tracked.state:
            tracked.state = UNTRACKED

    def _translate(self, hook: str, bases: list[tuple[Base, WholeTable]], tracked: Tracked) -> None:
        """Translate as the connection has it, or as the first nat chain decides that translates."""
        connection, kind = tracked.connection, _kind(hook)
        if connection is None:
            return
        if tracked.is_answer or kind in connection.decided:
            self._known_translation(hook, connection, tracked)
        elif not any(self._nat(hook, base, table, connection, tracked) for base, table in bases):
            decide(connection, kind, None)

    def _nat(self, hook: str, base: Base, table: WholeTable, connection: Connection, tracked: Tracked) -> bool:
        """Have a nat chain decide; True: it translates, so that no other one of the hook is asked."""
        found: list[Ruling] = []
        walk = ChainWalk(table, base.chain, tracked.passing, found.append)
        walk.run()
        for ruling in found:
            if ruling.nat is None:
                self._report(hook, ruling, tracked)
        if walk.nat is None:
            return False
        before = tracked.packet
        tracked.packet = self._translated(walk.nat, tracked)
        decide(connection, _kind(hook), tracked.packet)
        self._report(hook, found[-1], tracked, before)
        return True

    def _known_translation(self, hook: str, connection: Connection, tracked: Tracked) -> None:
        before = tracked.packet
        tracked.packet = translate_known(before, connection, tracked.is_answer, _kind(hook))
        if tracked.packet != before:
            what = "existing connection" if connection.existing else "tracked connection"
            side = "answer of the " if tracked.is_answer else "translated as the "
            self._hop(f"conntrack {hook}", f"{side}{what} {connection.begin.text}", before, tracked.packet)

    def _hop(self, where: str, text: str, before: Packet, after: Packet) -> None:
        self._record(Hop(self._namespace.name, where, text, before.head, after.head, after.mark))

    def _translated(self, target: NatTarget, tracked: Tracked) -> Packet:
        packet = tracked.packet
        match target:
            case Dnat():
                return packet.with_head(dst=target.address, dport=_port(target, packet))
            case Snat():
                return packet.with_head(src=target.address)
            case SourceRange():
                where = namespace_text(self._namespace.name)
                self._remark(f"SNAT in {where}: the source is one of {target.choice}; the kernel chooses, one is shown")
                low, high = target.ports or (0, 0xFFFF)
                sport = packet.head.sport
                return packet.with_head(src=target.first, sport=sport if low <= sport <= high else low)
            case Redirect():
                return packet.with_head(dst=self._redirected_to(tracked), dport=target.port)
            case _:
                return packet.with_head(src=self._own_address(tracked.oif, packet.head.dst))

    def _redirected_to(self, tracked: Tracked) -> str:
        """Return the address to which REDIRECT leads: the first one of the device that the packet came in by."""
        is_six = tracked.packet.family == 6
        if not tracked.iif:
            return "::1" if is_six else "127.0.0.1"
        return self._own_address(tracked.iif, tracked.packet.head.dst)

    def _own_address(self, device: str, towards: str) -> str:
        found = self._namespace.devices.get(device)
        family = family_of(towards)
        addresses = [one for one in (found.addresses if found else ()) if family_of(one) == family]
        wide = [one for one in addresses if not is_link_local(ip_of(one))] or addresses
        near = [one for one in wide if is_in(towards, one)] or wide
        if not near:
            raise unknown(f"{device} has no IPv{family} address to translate to")
        return ip_of(near[0])

    def _report(self, hook: str, ruling: Ruling, tracked: Tracked, before: Packet | None = None) -> None:
        table, after = ruling.table, tracked.packet if ruling.nat else ruling.passing.packet
        handle = ruling.rule.handle if ruling.rule else 0
        rule = RuleAt(after.family, table.name, ruling.chain, ruling.number, table.nft, handle)
        head = (before or tracked.packet).head
        self._record(
            Hop(self._namespace.name, f"{table.title} {hook}", ruling.text, head, after.head, after.mark, rule)
        )


def _kind(hook: str) -> str:
    return "SNAT" if hook in SOURCE_HOOKS else "DNAT"


def _port(target: Dnat, packet: Packet) -> int:
    """Return the port that a DNAT rule gives to a packet; from a range without a base the first one."""
    if target.ports is None:
        return packet.head.dport
    first, last = target.ports
    if target.base is None:
        return packet.head.dport if first <= packet.head.dport <= last else first
    return min(max(first + packet.head.dport - target.base, first), last)
