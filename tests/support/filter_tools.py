"""The packet filter that routers of this test run have (pytest's option ``--packet-filter``), seen by its own tool."""

from __future__ import annotations

from dvr_agent.kernel.api import WriteCounters
from dvr_agent.kernel.host_filter import HostFilter
from dvr_agent.kernel.nftables.filter_manager import NftablesFilter
from dvr_agent.kernel.other_filters import ALL_TABLES
from tests.support import lab


def uses_nftables() -> bool:
    """Return True if routers are built with nf_tables."""
    return HostFilter.backend == "nftables"


def rule_kind() -> str:
    """Return what plans call a rule."""
    return "nftables" if uses_nftables() else "iptables"


def saved(namespace: str) -> str:
    """Print all rules of a namespace as iptables-legacy-save and ip6tables-legacy-save, and nft where it is used."""
    ours = lab.in_netns(namespace, "nft", "list", "ruleset") if uses_nftables() else ""
    return ours + "".join(lab.in_netns(namespace, f"ip{six}tables-legacy-save") for six in ("", "6"))


def rule_lines(namespace: str) -> tuple[list[str], list[str]]:
    """Return all rules for IPv4 and IPv6 in the syntax of iptables-save, of legacy tables and of our nf_tables.

    Of nf_tables as the agent reads them: ``test_nftables_filter.py`` holds that to what nft lists.
    """
    lines = tuple(lab.in_netns(namespace, f"ip{six}tables-legacy-save").splitlines() for six in ("", "6"))
    if uses_nftables():
        for table in NftablesFilter(WriteCounters()).observe(namespace, ALL_TABLES):
            found = lines[0 if table.family == 4 else 1]
            found += [f"-A {chain.name} {rule.text}" for chain in table.chains for rule in chain.rules]
    return lines[0], lines[1]


def flush_nat(namespace: str) -> None:
    """Empty our chain for destination NAT, as an administrator may by mistake."""
    if uses_nftables():
        lab.in_netns(namespace, "nft", "flush", "chain", "ip", "dvr", "nat_prerouting")
    else:
        lab.in_netns(namespace, "iptables-legacy", "-w", "-t", "nat", "-F", "dvr-PREROUTING")


def add_translation(namespace: str, address: str, target: str) -> None:
    """Add a destination NAT rule to our chain, which is empty or not there, as one that is left over."""
    if uses_nftables():
        for text in (
            "add table ip dvr",
            "add map ip dvr fip_in { type ipv4_addr : ipv4_addr; }",
            "add chain ip dvr nat_prerouting { type nat hook prerouting priority -105; }",
            "flush chain ip dvr nat_prerouting",
            "add rule ip dvr nat_prerouting dnat to ip daddr map @fip_in",
            f"add element ip dvr fip_in {{ {address} : {target} }}",
        ):
            lab.in_netns(namespace, "nft", text)
        return
    to = ("-A", "dvr-PREROUTING", "-d", address, "-j", "DNAT", "--to-destination", target)
    for words in (("-N", "dvr-PREROUTING"), to):
        lab.in_netns(namespace, "iptables-legacy", "-w", "-t", "nat", *words)


def remove_translation(namespace: str, address: str) -> None:
    """Remove the destination NAT of an address: an element of nf_tables, or a rule."""
    if uses_nftables():
        lab.in_netns(namespace, "nft", f"delete element ip dvr fip_in {{ {address} }}")
        return
    saved_nat = lab.in_netns(namespace, "iptables-legacy-save", "-t", "nat").splitlines()
    rule = next(line for line in saved_nat if f"-d {address}/32" in line and "-j DNAT" in line)
    lab.in_netns(namespace, "iptables-legacy", "-w", "-t", "nat", *rule.replace("-A ", "-D ", 1).split())


def delete_rule(namespace: str, table: str, builtin: str) -> None:
    """Delete the first rule of a chain of ours."""
    if not uses_nftables():
        lab.in_netns(namespace, "iptables-legacy", "-w", "-t", table, "-D", f"dvr-{builtin}", "1")
        return
    chain = ("ip", "dvr", f"{table}_{builtin.lower()}")
    listed = lab.in_netns(namespace, "nft", "-a", "list", "chain", *chain).splitlines()
    rule = listed[3]  # after the lines of table, chain and hook
    lab.in_netns(namespace, "nft", "delete", "rule", *chain, "handle", rule.rpartition(" ")[2])
