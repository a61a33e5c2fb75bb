"""Find and remove the chains that neutron-l3-agent has in tables of nf_tables, where its iptables is iptables-nft.

Implements :class:`dvr_agent.kernel.api.NftablesManager`.  Used at takeover (``reconcile/takeover.py``).
A namespace without such chains costs one dump of chains.  They are removed in one transaction per namespace: packets
see all of the chains or none.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from contextlib import AbstractContextManager

from pyroute2.netlink import NETLINK_NETFILTER

from dvr_agent.errors import KernelError, NamespaceGoneError
from dvr_agent.kernel import job_sockets
from dvr_agent.kernel.api import DroppingChain, WriteCounters
from dvr_agent.kernel.netlink.transport import NetlinkSocket
from dvr_agent.kernel.nftables.dropping import dropping_chains
from dvr_agent.kernel.nftables.message import (
    GET_CHAIN,
    GET_TABLE,
    MISSING,
    ChainInfo,
    decode_chain,
    decode_rule,
    decode_table,
    dump,
    dump_rules,
)
from dvr_agent.kernel.nftables.stale_chains import NftTable, as_table, deletions, tables_with_stale_chains
from dvr_agent.kernel.nftables.transaction import CHANGED, TRIES, commit, read_generation
from dvr_agent.state.filter import Table

_CHANGED = CHANGED | {errno.ENOENT}
_BUSY = "a rule that is not ours leads to this chain of neutron-l3-agent; delete that rule"


class NftablesTables:
    """Chains of neutron-l3-agent in nf_tables, namespace by namespace.

    Keeps nothing between calls, except that this kernel has no nf_tables at all.
    """

    def __init__(self, counters: WriteCounters) -> None:
        self._counters = counters
        self._missing = False

    def observe(self, namespace: str) -> tuple[tuple[Table, ...], Sequence[ChainInfo]]:
        """Read neutron-l3-agent's chains, by table, with their rules as far as ``state.filter`` can express them.

        :returns: the tables, and all chains of the namespace
        :raises NamespaceGoneError: there is no such namespace
        :raises KernelError: they could not be read
        """
        opened = self._open(namespace)
        if opened is None:
            return (), ()
        with opened as sock:
            chains = self._read_chains(sock)
            return tuple(map(as_table, _read(sock, chains))), chains

    def dropping(self, namespace: str) -> tuple[DroppingChain, ...]:
        """Read the base chains by which others drop what is forwarded.

        :raises KernelError: they could not be read
        """
        return () if self._missing else dropping_chains(namespace)

    def remove(self, namespace: str) -> int:
        """Delete neutron-l3-agent's chains in one transaction; returns their number.

        :raises NamespaceGoneError: there is no such namespace
        :raises KernelError: nothing was changed; EBUSY: a rule of others leads to one of the chains
        """
        if self._missing:
            return 0
        with job_sockets.netlink(namespace, None, NETLINK_NETFILTER) as sock:
            for tries_left in reversed(range(TRIES)):
                generation = read_generation(sock)
                tables = _read(sock, self._read_chains(sock))
                if not tables:
                    return 0
                changes = [one for table in tables for one in deletions(table)]
                if commit(sock, changes, generation, tries_left > 0, _CHANGED, _BUSY):
                    self._counters.nftables += 1
                    return sum(len(table.stale_chains) for table in tables)
        raise AssertionError("not reached")

    def _open(self, namespace: str) -> AbstractContextManager[NetlinkSocket] | None:
        """Open a netlink socket in the namespace; None: this kernel has no nf_tables."""
        if self._missing:
            return None
        try:
            return job_sockets.netlink(namespace, None, NETLINK_NETFILTER)
        except NamespaceGoneError:
            raise
        except KernelError as exc:
            if exc.code not in MISSING:
                raise
            self._missing = True
            return None

    def _read_chains(self, sock: NetlinkSocket) -> list[ChainInfo]:
        try:
            return [decode_chain(data) for data in sock.dump(dump(GET_CHAIN, "chains of nf_tables"))]
        except KernelError as exc:
            if exc.code not in MISSING:
                raise
            self._missing = True
            return []


def _read(sock: NetlinkSocket, chains: Sequence[ChainInfo]) -> list[NftTable]:
    """Read the tables in which neutron-l3-agent has chains.

    :param chains: all of the namespace
    """
    places = tables_with_stale_chains(chains)
    if not places:
        return []
    infos = {
        (info.family, info.name): info
        for data in sock.dump(dump(GET_TABLE, "tables of nf_tables"))
        for info in (decode_table(data),)
    }
    return [
        NftTable(
            infos[place],
            tuple(chain for chain in chains if (chain.family, chain.table) == place),
            tuple(decode_rule(data) for data in sock.dump(dump_rules(*place))),
        )
        for place in places
        if place in infos
    ]
