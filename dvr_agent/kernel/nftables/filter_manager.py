"""Our part of the packet filter in nf_tables: the tables ``ip dvr`` and ``ip6 dvr`` of each namespace.

Implements :class:`dvr_agent.kernel.api.PacketFilter` as ``kernel/iptables`` does with legacy tables; a host uses one of
the two.  All changes of a namespace are one transaction, made for the generation of the rule set that was read: if
another program has changed it meanwhile, the kernel refuses, and it is read again.  So there is no lock.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterable, Iterator, Mapping, Sequence

from pyroute2.netlink import NETLINK_NETFILTER

from dvr_agent.errors import KernelError
from dvr_agent.kernel import job_sockets
from dvr_agent.kernel.api import RuleCount, WriteCounters
from dvr_agent.kernel.iptables.helper_probe import HelperProbe
from dvr_agent.kernel.iptables.pending import Pending
from dvr_agent.kernel.netlink.message import Request
from dvr_agent.kernel.netlink.transport import NetlinkSocket
from dvr_agent.kernel.nftables.element_changes import ElementChange, element_changes, with_elements
from dvr_agent.kernel.nftables.filter_diff import changes, element_requests
from dvr_agent.kernel.nftables.filter_reader import FAMILIES, FilterReader, Found, read_counters
from dvr_agent.kernel.nftables.helper_objects import families_of
from dvr_agent.kernel.nftables.ruleset import TABLE, Ruleset, counted_rules, family_text, with_tables
from dvr_agent.kernel.nftables.ruleset_text import ruleset_text
from dvr_agent.kernel.nftables.transaction import TRIES, commit
from dvr_agent.state.filter import Family, Table, TableKey, Transport
from dvr_agent.state.filter_runs import is_same, less_seconds


class NftablesFilter:
    """Packet filter tables by nf_tables."""

    def __init__(self, counters: WriteCounters) -> None:
        self._counters = counters
        self._reader = FilterReader()
        self._helpers = HelperProbe(ask=families_of)

    def observe(self, namespace: str, tables: Iterable[TableKey], likely: Iterable[Table] = ()) -> tuple[Table, ...]:
        """Read our part of each named table, in the order asked for.

        :raises NamespaceGoneError: there is no such namespace
        """
        with _socket(namespace) as sock:
            found = self._reader.read(sock)
        return tuple(map(found.table, tables))

    def save(self, namespace: str) -> str:
        """Print our tables as ``nft list ruleset`` does; empty if there are none."""
        with _socket(namespace) as sock:
            rulesets = self._reader.read(sock).rulesets
        return "".join(ruleset_text(one) for one in rulesets.values() if one)

    def counts(self, namespace: str, table: TableKey) -> tuple[RuleCount, ...]:
        """Read the counters of the rules that count; other rules have none, since counting costs each packet.

        :raises NamespaceGoneError: there is no such namespace
        """
        with _socket(namespace) as sock:
            ruleset = self._reader.read(sock).rulesets[table[0]]
            counted = counted_rules(ruleset, table[1])
            found = read_counters(sock, table[0], dict.fromkeys(name for name, _, _ in counted))
        return tuple(RuleCount(rule, *found[name][key]) for name, key, rule in counted if key in found[name])

    def helper_families(self, name: str, protocol: Transport) -> frozenset[Family]:
        """Return the families for which the kernel has this connection tracking helper; empty: it has none."""
        return self._helpers.families(name, protocol)

    @contextlib.contextmanager
    def reserve(self) -> Iterator[None]:
        """Do nothing: a transaction needs no lock."""
        yield

    @contextlib.contextmanager
    def defer_apply(self) -> Iterator[Pending]:
        """Collect changes; at the end of the block make those of each namespace in one transaction.

        An exception inside the block applies nothing, and so does a rule that cannot be expressed.

        :raises KernelError: naming namespace and object; namespaces before it are done, those after it left alone
        """
        pending = Pending()
        yield pending
        for namespace in pending.namespaces():
            self._commit(namespace, {table.key: table for table in pending.of(namespace)})

    def _commit(self, namespace: str, wanted: Mapping[TableKey, Table]) -> None:
        with _socket(namespace) as sock:
            for tries_left in reversed(range(TRIES)):
                found = self._reader.read(sock)
                changed = _changed_tables(found, wanted)
                rulesets, requests = _planned(namespace, found, changed)
                if not requests:
                    return
                if commit(sock, requests, found.generation, retry=tries_left > 0):
                    self._counters.commits += len(changed)
                    self._reader.remember(sock, found.then(rulesets, changed.values()))
                    return


def _socket(namespace: str) -> contextlib.AbstractContextManager[NetlinkSocket]:
    return job_sockets.netlink(namespace, None, NETLINK_NETFILTER)


def _changed_tables(found: Found, wanted: Mapping[TableKey, Table]) -> dict[TableKey, Table]:
    return {
        key: less_seconds(found.table(key), one) for key, one in wanted.items() if not is_same(found.table(key), one)
    }


def _planned(
    namespace: str, found: Found, wanted: Mapping[TableKey, Table]
) -> tuple[dict[Family, Ruleset], list[Request]]:
    """Return the rulesets with the wanted tables, and the requests that make them."""
    rulesets: dict[Family, Ruleset] = {}
    requests: list[Request] = []
    for family in FAMILIES:
        old = found.rulesets[family]
        here = [table for key, table in wanted.items() if key[0] == family]
        try:
            rulesets[family], needed = _changed(found, old, here) if here else (old, ())
        except ValueError as exc:
            raise KernelError(namespace, f"nft table {family_text(family)} {TABLE}", errno.EINVAL, str(exc)) from exc
        requests += needed
    return rulesets, requests


def _changed(found: Found, old: Ruleset, wanted: Sequence[Table]) -> tuple[Ruleset, Sequence[Request]]:
    """Return the ruleset of a family with the wanted tables, and the requests that make it.

    :raises ValueError: a rule cannot be expressed
    """
    small: list[ElementChange] = []
    for table in wanted:
        one = element_changes(old, found.table(table.key), table)
        if one is None:
            new = with_tables(old, wanted)
            return new, list(changes(old, new))
        small += one
    return with_elements(old, small), list(element_requests(old, small))
