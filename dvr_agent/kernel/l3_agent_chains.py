"""Names of neutron-l3-agent's chains, the same in legacy tables and in nf_tables (iptables-nft).

Used by ``iptables`` and ``nftables``, and by takeover and handover in ``reconcile``.
"""

from __future__ import annotations

L3_AGENT_PREFIX = "neutron-l3-agent-"
L3_AGENT_NAMES = frozenset({"neutron-filter-top", "neutron-postrouting-bottom"})
"""Neutron's names (neutron.agent.linux.iptables_manager): chains with a prefix, and two shared ones."""


def is_l3_agent_chain(chain: str) -> bool:
    """True for the name of a chain of neutron-l3-agent."""
    return chain.startswith(L3_AGENT_PREFIX) or chain in L3_AGENT_NAMES
