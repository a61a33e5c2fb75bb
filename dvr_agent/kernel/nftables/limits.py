"""Read and write bandwidth limits: the nf_tables table ``netdev dvr_qos`` of a namespace.

The table has one chain per direction and device, at the device's own hook: before NAT on the way in, after it on the
way out, so that packets have the address of the outside.  A chain has one rule, whatever the number of limits: a map
leads from the packet's address to a named limit, and what is above that limit is counted by address, and dropped::

    limit leaving_qg_1_203.0.113.5_125000_125000 { rate over 125000 bytes/second }
    map leaving_qg_1 { type ipv4_addr : limit; elements = { 203.0.113.5 : "leaving_qg_1_203.0.113.5_…" } }
    set dropped_leaving_qg_1 { type ipv4_addr; flags dynamic; elements = { 203.0.113.5 counter packets 7 bytes 9100 } }
    chain leaving_qg_1 {
        type filter hook egress device "qg-1" priority 0
        limit name ip saddr map @leaving_qg_1 add @dropped_leaving_qg_1 { ip saddr counter } drop
    }

A kernel without the hook for what leaves a device has the chains in a table ``ip dvr_qos`` instead, before and after
NAT of all devices, and the rule names the device (:data:`~.limit_messages.AROUND_NAT`).

A change is one transaction; a limit that does not change keeps its tokens.  A rule without counter, of an earlier
version, works as well: it gets one with the next change.  A table that is not as it is made here
(another program changed it, or an older kernel took a chain away with its device) is made anew as a whole.

Used by ``kernel/observe.py`` and ``kernel/apply.py``: limits are a kind of object without netlink handler of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from pyroute2.netlink import NETLINK_NETFILTER

from dvr_agent.errors import KernelError
from dvr_agent.kernel import job_sockets
from dvr_agent.kernel.api import WriteCounters
from dvr_agent.kernel.netlink.message import Request
from dvr_agent.kernel.netlink.schema import Data
from dvr_agent.kernel.netlink.transport import NetlinkSocket
from dvr_agent.kernel.nftables.limit_messages import (
    AT_DEVICES,
    TABLE,
    Layout,
    LimitMessages,
    NamedLimit,
    Place,
    decode_chain,
    decode_drops,
    decode_elements,
    decode_limit,
    device_of,
    shape,
    shape_of,
)
from dvr_agent.kernel.nftables.message import MISSING, decode_rule, dump_rules
from dvr_agent.kernel.nftables.transaction import TRIES, commit, read_generation
from dvr_agent.state.diff import Action, Change
from dvr_agent.state.limit import LIMIT_KIND, Drops, Limit

Limits = dict[Place, dict[str, Limit]]
"""Place → address → limit."""


@dataclass(slots=True)
class LimitTable:
    """The table as it was read.

    :ivar limits: those that work
    :ivar names: of limits: (place, address) → name
    :ivar counting: places whose rule counts
    :ivar is_ours: everything in the table is as it is made here, but for counters
    """

    limits: Limits = field(default_factory=dict)
    names: dict[tuple[Place, str], str] = field(default_factory=dict)
    counting: set[Place] = field(default_factory=set)
    is_ours: bool = False


class HostLayout:
    """The layout that this host's kernel can have; :mod:`.limit_probe` finds it at the start.

    :ivar messages: requests about it
    """

    messages = LimitMessages(AT_DEVICES)

    @classmethod
    def choose(cls, layout: Layout) -> None:
        """Use another layout from now on."""
        cls.messages = LimitMessages(layout)


def read_limits(sock: NetlinkSocket) -> Iterator[Limit]:
    """Yield the limits that work in the socket's namespace, on all devices.

    :param sock: of the netfilter family
    """
    for limits in _read(sock, HostLayout.messages).limits.values():
        yield from limits.values()


def read_drops(sock: NetlinkSocket) -> Iterator[Drops]:
    """Yield what the limits in the socket's namespace have dropped: nothing of an address that has lost no packet."""
    messages = HostLayout.messages
    table = _read(sock, messages)
    for place in table.counting:
        for data in sock.dump(messages.dump_elements(place.drops)):
            for address, packets in decode_drops(data):
                if address in table.limits[place]:
                    yield Drops(place.device, place.direction, address, packets)


def write_limits(namespace: str, changes: Iterable[Change], counters: WriteCounters) -> None:
    """Add, change and remove limits in one transaction.

    :raises NamespaceGoneError: there is no such namespace
    :raises KernelError: nothing was changed
    """
    wanted = [(change.action, change.item) for change in changes if isinstance(change.item, Limit)]
    messages = HostLayout.messages
    with job_sockets.netlink(namespace, None, NETLINK_NETFILTER) as sock:
        for tries_left in reversed(range(TRIES)):
            generation = read_generation(sock)
            found = _read(sock, messages)
            requests = _requests(messages, found, _changed(found.limits, wanted))
            if not requests:
                return
            if commit(sock, requests, generation, retry=tries_left > 0):
                counters.nftables += 1
                return


def _read(sock: NetlinkSocket, messages: LimitMessages) -> LimitTable:
    try:
        chains = [found for data in sock.dump(messages.dump_chains()) if (found := decode_chain(data))]
    except KernelError as exc:
        if exc.code not in MISSING:
            raise
        chains = []
    return _read_chains(sock, messages, chains) if chains else LimitTable()


def _read_chains(sock: NetlinkSocket, messages: LimitMessages, chains: list[tuple[str, int, int, str]]) -> LimitTable:
    layout = messages.layout
    names = {limit.name: limit for limit in map(_decoded_limit, sock.dump(messages.dump_limits()))}
    rules: dict[str, list[bytes]] = {}
    for rule in (decode_rule(data) for data in sock.dump(dump_rules(layout.family, TABLE))):
        rules.setdefault(rule.chain, []).append(bytes(rule.expressions))
    table = LimitTable(is_ours=True)
    for name, number, priority, device in chains:
        place, counts = _place(layout, (number, priority), device, rules.get(name, []))
        if place is None or place.name != name:
            table.is_ours = False
            continue
        table.limits[place] = {}
        table.counting |= {place} if counts else set()
        for data in sock.dump(messages.dump_elements(place.name)):
            _add_elements(table, place, decode_elements(bytes(data)), names)
    if set(table.names.values()) != names.keys():
        table.is_ours = False
    return table


def _place(layout: Layout, hook: tuple[int, int], device: str, rules: list[bytes]) -> tuple[Place | None, bool]:
    """Return the place of a chain at a hook, and whether it counts; None if chain or rules are not as ours are."""
    direction = next((one for one, its_hook in layout.hooks.items() if its_hook == hook), None)
    if direction is None or len(rules) != 1:
        return None, False
    place = Place(direction, device if layout.at_device else device_of(rules[0]))
    found = shape(rules[0])
    counts = next((counts for counts in (True, False) if found == shape_of(layout.at_device, counts, place)), None)
    return (None, False) if counts is None else (place, counts)


def _decoded_limit(data: Data) -> NamedLimit:
    return decode_limit(bytes(data))


def _add_elements(
    table: LimitTable, place: Place, elements: Iterable[tuple[str, str]], names: dict[str, NamedLimit]
) -> None:
    for address, name in elements:
        named = names.get(name)
        if named is None or not named.rate:
            table.is_ours = False
            continue
        table.names[place, address] = name
        table.limits[place][address] = Limit(place.device, place.direction, address, named.rate, named.burst)


def _changed(limits: Limits, changes: Iterable[tuple[Action, Limit]]) -> Limits:
    """Return the limits after the changes."""
    found = {LIMIT_KIND.identity(one): one for by_address in limits.values() for one in by_address.values()}
    for action, limit in changes:
        if action is Action.REMOVE:
            found.pop(LIMIT_KIND.identity(limit), None)
        else:
            found[LIMIT_KIND.identity(limit)] = limit
    wanted: Limits = {}
    for limit in found.values():
        wanted.setdefault(Place(limit.direction, limit.device), {})[limit.address] = limit
    return wanted


def _requests(messages: LimitMessages, table: LimitTable, wanted: Limits) -> list[Request]:
    """Return what turns the table into the one with the wanted limits."""
    if table.is_ours:
        return [*_edits(messages, table, wanted)] if wanted else [messages.delete_table()]
    anew = [messages.new_table(), messages.delete_table()]  # one that is missing cannot be deleted
    if not wanted:
        return anew
    return [*anew, messages.new_table(), *_edits(messages, LimitTable(), wanted)]


def _edits(messages: LimitMessages, table: LimitTable, wanted: Limits) -> Iterator[Request]:
    """Yield the changes of a table: a named limit is deleted when no element leads to it, its map before it."""
    unused: list[str] = []
    for place, limits in table.limits.items():
        here = wanted.get(place)
        unused += [table.names[place, one] for one in limits if here is None or here.get(one) != limits[one]]
        if here is None:
            yield from messages.delete_chain(place, place in table.counting)
            continue
        if messages.layout.counts and place not in table.counting:
            yield from messages.replace_rule(place)
        yield from (messages.delete_element(place, one) for one in limits if here.get(one) != limits[one])
    for place, here in wanted.items():
        if place not in table.limits:
            yield from messages.new_chain(place)
        before = table.limits.get(place, {})
        for address, limit in here.items():
            if before.get(address) != limit:
                name = f"{place.name}_{address}_{limit.rate}_{limit.burst}"
                yield messages.new_limit(name, limit)
                yield messages.new_element(place, address, name)
    yield from map(messages.delete_limit, unused)
