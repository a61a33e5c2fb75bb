"""Finds what stops traffic without being ours.  Nothing of it is changed; the operator is warned.

Of a router's namespaces (:class:`RouterHindrances`): settings are taken from the observed state, which costs nothing.
nf_tables is not observed otherwise, so in resyncs it is read now and then, as neighbours that no port has
(``RouterMemory.knows``), and at every job until what was found is gone.

Of the host as a whole (:class:`HostHindrances`), once per resync or audit: fip namespaces, which routers share;
external bridges; and the host's own packet filter where it sees the packets in bridges.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

from dvr_agent.desired import names
from dvr_agent.kernel.api import DroppingChain
from dvr_agent.kernel.other_filters import TRANSIT
from dvr_agent.plural import verb
from dvr_agent.reconcile.memory import HostMemory
from dvr_agent.reconcile.reader import AttachReader, KernelReader
from dvr_agent.state.filter import Family, Table, TableKey
from dvr_agent.state.namespace import NamespaceState
from dvr_agent.state.sysctl import Sysctl

STRICT = Sysctl("ipv4/conf/all/rp_filter", "1")
"""The parameter, with the value that drops replies which come in by another device than requests leave by."""
_FILTERS: tuple[TableKey, ...] = ((4, "filter"), (6, "filter"))


class RouterHindrances:
    """Finds what stops traffic in the namespaces of single routers.

    :param kernel: reads nf_tables
    """

    def __init__(self, kernel: KernelReader) -> None:
        self._kernel = kernel
        self._dropping: set[str] = set()
        """Namespaces in which a chain was found that drops packets."""

    def find(self, states: Iterable[NamespaceState | None], known: bool) -> tuple[str, ...]:
        """Return what stops traffic in the observed namespaces, a text for each.

        :param known: the router was in sync not long ago, and nf_tables was read not long ago
        """
        return tuple(text for state in states if state is not None for text in self._of_namespace(state, known))

    def _of_namespace(self, state: NamespaceState, known: bool) -> Iterator[str]:
        yield from _by_policy(state.name, state.tables)
        yield from _by_reverse_path(state)
        for chain in self._by_chain(state.name, known):
            yield f"namespace {state.name}: {chain.text}"

    def _by_chain(self, namespace: str, known: bool) -> tuple[DroppingChain, ...]:
        if known and namespace not in self._dropping:
            return ()
        self._dropping.discard(namespace)
        found = self._kernel.nftables.dropping(namespace)
        if found:
            self._dropping.add(namespace)
        return found


class HostHindrances:
    """Finds what stops traffic of many routers of this host.

    :param memory: knows the external networks in use
    """

    def __init__(self, kernel: KernelReader, attach: AttachReader, memory: HostMemory) -> None:
        self._kernel, self._attach, self._memory = kernel, attach, memory

    def find(self) -> tuple[str, ...]:
        """Return what stops traffic, a text for each.

        :raises DvrError: something could not be read
        """
        return tuple(self._texts())

    def _texts(self) -> Iterator[str]:
        yield from self._attach.host_hindrances()
        yield from self._by_host_filter(self._attach.filtered_families())
        for network in sorted(self._memory.networks.gateways):
            yield from self._in_fip(names.FIP + network)

    def _in_fip(self, namespace: str) -> Iterator[str]:
        if not self._kernel.namespaces.exists(namespace):
            return
        yield from _by_policy(namespace, self._kernel.packet_filter.observe(namespace, _FILTERS))
        for chain in self._kernel.nftables.dropping(namespace):
            yield f"namespace {namespace}: {chain.text}"

    def _by_host_filter(self, families: Sequence[Family]) -> Iterator[str]:
        """Yield what of the host's own packet filter drops in bridges.

        :param families: of the packets that it sees there
        """
        if not families:
            return
        tables = self._kernel.packet_filter.observe("", [key for key in _FILTERS if key[0] in families])
        closed = [table for table in tables if "FORWARD" in table.dropping]
        policies = [(table.family, f"{table.text}: the policy of FORWARD is DROP") for table in closed]
        chains = [(family, one.text) for one in self._kernel.nftables.dropping("") for family in one.families]
        for family in families:
            switch = "bridge-nf-call-iptables" if family == 4 else "bridge-nf-call-ip6tables"
            for found, text in (*policies, *chains):
                if found == family:
                    yield f"net.bridge.{switch} is 1, so the host's packet filter sees what is in bridges: {text}"


def _by_reverse_path(state: NamespaceState) -> Iterator[str]:
    """The kernel heeds the greater one of the namespace's value and the device's; 2 is loose."""
    strict: Collection[Sysctl] = [STRICT] if STRICT in state.sysctls else ()
    if Sysctl(STRICT.key, "0") in state.sysctls:
        strict = sorted(one for one in state.adverse if one.key.endswith("/rp_filter"))
    if strict:
        named = ", ".join(f"net.{one.key.replace('/', '.')}" for one in strict)
        is_or_are = verb(len(strict), "is", "are")
        yield f"namespace {state.name}: {named} {is_or_are} 1 (strict): it drops replies by another device"


def _by_policy(namespace: str, tables: Iterable[Table]) -> Iterator[str]:
    for table in tables:
        for chain in table.dropping:
            if chain in TRANSIT:
                yield f"namespace {namespace}: {table.text}: the policy of {chain} is DROP"
