"""Read and remove the chains of neutron-l3-agent in nf_tables, which iptables-nft makes; nothing is ever added.

Used at takeover and handover.  :mod:`.manager` implements :class:`dvr_agent.kernel.api.NftablesManager` with
:mod:`.message` (requests and decoded objects), :mod:`.rules` (decodes a rule to ``state.filter``) and
:mod:`.stale_chains` (decides what is deleted).
"""
