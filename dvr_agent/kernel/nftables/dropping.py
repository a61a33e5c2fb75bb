"""Find base chains of other programs that drop what is forwarded.  Used by :mod:`.manager`."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator

from pyroute2.netlink import NETLINK_NETFILTER

from dvr_agent.errors import KernelError, NamespaceGoneError
from dvr_agent.kernel import job_sockets
from dvr_agent.kernel.api import DroppingChain
from dvr_agent.kernel.netlink.transport import NetlinkSocket
from dvr_agent.kernel.nftables.message import (
    FAMILIES,
    GET_CHAIN,
    MISSING,
    NFPROTO_INET,
    ChainInfo,
    decode_chain,
    decode_rule,
    dump,
    dump_rules,
)
from dvr_agent.kernel.nftables.rules import drops_all
from dvr_agent.kernel.nftables.ruleset import TABLE
from dvr_agent.state.filter import Family

_FAMILIES: dict[int, tuple[str, tuple[Family, ...]]] = {
    int(socket.AF_INET): ("ip", (4,)),
    int(socket.AF_INET6): ("ip6", (6,)),
    NFPROTO_INET: ("inet", (4, 6)),
}
"""Family of nf_tables → its name, and the families of the packets that it sees."""
_HOOKS = {0: "prerouting", 2: "forward", 4: "postrouting"}
"""Hooks by which forwarded packets pass (include/uapi/linux/netfilter.h)."""


def dropping_chains(namespace: str) -> tuple[DroppingChain, ...]:
    """Read the base chains that drop every packet that no rule before accepts; () if there are none, or no nf_tables.

    :raises KernelError: they could not be read
    """
    try:
        with job_sockets.netlink(namespace, None, NETLINK_NETFILTER) as sock:
            chains = [decode_chain(data) for data in sock.dump(dump(GET_CHAIN, "chains of nf_tables"))]
            passed = [chain for chain in chains if _is_passed(chain) and not _is_ours(chain)]
            closed = _closed(sock, [chain for chain in passed if chain.accepts]) if passed else set()
    except NamespaceGoneError:
        return ()
    except KernelError as exc:
        if exc.code not in MISSING:
            raise
        return ()
    return tuple(_described(passed, closed))


def _is_passed(chain: ChainInfo) -> bool:
    """Return True for a base chain by which forwarded packets pass."""
    return chain.family in _FAMILIES and chain.hook in _HOOKS


def _is_ours(chain: ChainInfo) -> bool:
    """Return True for a chain of the tables in which only this agent writes: all of them is compared."""
    return chain.family in FAMILIES and chain.table == TABLE


def _described(chains: Iterable[ChainInfo], closed: set[tuple[int, str, str]]) -> Iterator[DroppingChain]:
    for chain in chains:
        name, families = _FAMILIES[chain.family]
        what = f"nft table {name} {chain.table}: chain {chain.name} (hook {_HOOKS[chain.hook]})"
        if not chain.accepts:
            yield DroppingChain(families, f"{what}: the policy is drop")
        elif (chain.family, chain.table, chain.name) in closed:
            yield DroppingChain(families, f"{what}: a rule drops every packet")


def _closed(sock: NetlinkSocket, chains: Iterable[ChainInfo]) -> set[tuple[int, str, str]]:
    """Return (family, table, chain) of those with a rule that drops every packet."""
    tables = {(chain.family, chain.table) for chain in chains}
    rules = [decode_rule(data) for table in sorted(tables) for data in sock.dump(dump_rules(*table))]
    return {(rule.family, rule.table, rule.chain) for rule in rules if drops_all(rule.expressions)}
