"""Names of neutron-l3-agent's chains, the same in legacy tables and in nf_tables (iptables-nft).

Used by ``iptables`` and ``nftables``, and by takeover and handover in ``reconcile``.
"""

from __future__ import annotations

from collections.abc import Collection

L3_AGENT_PREFIX = "neutron-l3-agent-"
L3_AGENT_NAMES = frozenset({"neutron-filter-top", "neutron-postrouting-bottom"})
"""Neutron's names (neutron.agent.linux.iptables_manager): chains with a prefix, and two shared ones."""


METER_PREFIX = "neutron-meter-"
"""Chains of neutron-metering-agent, a process of its own, in the filter tables of the same namespaces."""
SHARED_WITH_METER = frozenset({"neutron-filter-top", "neutron-l3-agent-local"})
"""The chain that both agents share, and the empty one of neutron-l3-agent to which a rule in it leads."""


def stale_chains(chains: Collection[str]) -> frozenset[str]:
    """Return the chains of neutron-l3-agent, of all chains of a table, that can be removed from it.

    Where neutron-metering-agent has chains those that it shares stay, since its packets pass them.
    """
    found = frozenset(filter(is_l3_agent_chain, chains))
    is_metered = any(chain.startswith(METER_PREFIX) for chain in chains)
    return found - SHARED_WITH_METER if is_metered else found


def is_l3_agent_chain(chain: str) -> bool:
    """True for the name of a chain of neutron-l3-agent."""
    return chain.startswith(L3_AGENT_PREFIX) or chain in L3_AGENT_NAMES
