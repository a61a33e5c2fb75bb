"""neutron-metering-agent in the same namespace: its chains and counters stay whatever this agent does with its own.

Its rules are from its code (neutron.services.metering.drivers.iptables): it shares ``neutron-filter-top``.
"""

from __future__ import annotations

import re

import pytest

from dvr_agent.kernel.api import Kernel
from dvr_agent.kernel.linux import open_kernel
from dvr_agent.state.filter import FilterRule, Table, Verdict
from dvr_agent.state.filter_runs import make_table
from tests.support import lab

NS = "qrouter-metered"
FILTER = make_table(4, "filter", {"FORWARD": (FilterRule(Verdict("DROP"), oif="qr-one"),)})
LEGACY, NFT = "legacy", "nft"
METERED = """\
*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:neutron-filter-top - [0:0]
:neutron-l3-agent-FORWARD - [0:0]
:neutron-l3-agent-local - [0:0]
:neutron-l3-agent-scope - [0:0]
:neutron-meter-FORWARD - [0:0]
:neutron-meter-l-0123456789a - [0:0]
:neutron-meter-local - [0:0]
:neutron-meter-r-0123456789a - [0:0]
-A FORWARD -j neutron-filter-top
-A FORWARD -j neutron-l3-agent-FORWARD
-A FORWARD -j neutron-meter-FORWARD
-A OUTPUT -j neutron-filter-top
-A neutron-filter-top -j neutron-l3-agent-local
-A neutron-filter-top -j neutron-meter-local
-A neutron-l3-agent-FORWARD -j neutron-l3-agent-scope
-A neutron-l3-agent-scope -o qr-one -m mark ! --mark 0x4000000/0xffff0000 -j DROP
-A neutron-meter-FORWARD -i rfp-one -j neutron-meter-r-0123456789a
-A neutron-meter-FORWARD -o rfp-one -j neutron-meter-r-0123456789a
[7:700] -A neutron-meter-l-0123456789a
-A neutron-meter-r-0123456789a -d 10.0.0.0/24 -j neutron-meter-l-0123456789a
COMMIT
"""
each_variant = pytest.mark.parametrize("variant", [LEGACY, NFT])


@pytest.fixture
def kernel(host: lab.Host) -> Kernel:
    kernel = open_kernel()
    kernel.namespaces.create(NS)
    return kernel


def restore(variant: str) -> None:
    lab.in_netns(NS, f"iptables-{variant}-restore", "--noflush", "--counters", text=METERED)


def metered(variant: str) -> list[str]:
    """Lines about the metering agent's chains, with counters; without the order of the other chains' rules."""
    saved = lab.in_netns(NS, f"iptables-{variant}-save", "-t", "filter", "-c").splitlines()
    return [line for line in saved if re.search("neutron-meter|neutron-filter-top", line)]


def replace(kernel: Kernel, table: Table) -> None:
    with kernel.packet_filter.defer_apply() as pending:
        pending.replace(NS, table)


@each_variant
def test_a_takeover_leaves_what_both_agents_share(kernel: Kernel, variant: str) -> None:
    restore(variant)
    before = metered(variant)
    assert any("7:700" in line for line in before)
    replace(kernel, FILTER)
    kernel.nftables.remove(NS)
    assert metered(variant) == before
    saved = lab.in_netns(NS, f"iptables-{variant}-save")
    assert set(re.findall(r"neutron-l3-agent-\w+", saved)) == {"neutron-l3-agent-local"}
    assert kernel.packet_filter.observe(NS, [FILTER.key]) == (FILTER,)
    assert kernel.nftables.observe(NS) == ()
    assert kernel.nftables.remove(NS) == 0


def test_our_changes_and_our_withdrawal_leave_its_chains_and_counters(kernel: Kernel) -> None:
    replace(kernel, FILTER)
    restore(LEGACY)
    before = metered(LEGACY)
    with kernel.packet_filter.defer_apply() as pending:
        pending.withdraw(NS, FILTER.key)
    replace(kernel, FILTER)
    replace(kernel, make_table(4, "filter", {"INPUT": (FilterRule(Verdict("ACCEPT")),)}))
    replace(kernel, Table(*FILTER.key))
    assert metered(LEGACY) == before


@each_variant
def test_without_it_the_shared_chain_goes_too(kernel: Kernel, variant: str) -> None:
    text = "\n".join(line for line in METERED.splitlines() if "meter" not in line) + "\n"
    lab.in_netns(NS, f"iptables-{variant}-restore", "--noflush", text=text)
    replace(kernel, FILTER)
    kernel.nftables.remove(NS)
    assert "neutron" not in lab.in_netns(NS, f"iptables-{variant}-save")
