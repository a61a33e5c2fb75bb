"""Chains of neutron-l3-agent in nf_tables: what is seen as its own, what goes, and what of others stays."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator

import pytest

from dvr_agent.errors import KernelError, NamespaceGoneError
from dvr_agent.kernel.api import Kernel
from dvr_agent.kernel.linux import open_kernel
from dvr_agent.kernel.nftables import manager, message, transaction
from dvr_agent.kernel.nftables.stale_chains import NftTable, deletions
from dvr_agent.state.filter import Table
from tests.support import lab
from tests.support.recorded_documents import DATA

NS = "qrouter-nft"
RECORDED = sorted(path.stem for path in (DATA / "packet_filter").glob("*.json"))
SMALL = """\
*nat
:neutron-l3-agent-PREROUTING - [0:0]
:neutron-postrouting-bottom - [0:0]
:neutron-l3-agent-snat - [0:0]
-A PREROUTING -j neutron-l3-agent-PREROUTING
-A POSTROUTING -j neutron-postrouting-bottom
-A neutron-l3-agent-PREROUTING -d 203.0.113.7/32 -i rfp-1 -j DNAT --to-destination 10.0.0.7
-A neutron-postrouting-bottom -j neutron-l3-agent-snat
-A neutron-l3-agent-snat -s 10.0.0.7/32 -j SNAT --to-source 203.0.113.7 --random-fully
COMMIT
"""


@pytest.fixture
def kernel(host: lab.Host) -> Kernel:
    kernel = open_kernel()
    kernel.namespaces.create(NS)
    return kernel


def restore(text: str, command: str = "iptables") -> None:
    lab.in_netns(NS, f"{command}-nft-restore", "--noflush", text=text)


def nft(*words: str) -> str:
    return lab.in_netns(NS, "nft", *words)


def lines(tables: tuple[Table, ...], family: int) -> set[tuple[str, str]]:
    """(table, rule as iptables-save prints it)."""
    found = set()
    for table in tables:
        if table.family == family:
            found |= {(table.name, f"-A {builtin} -j {chain}") for builtin, chain in table.jumps}
            found |= {(table.name, f"-A {chain.name} {rule.text}") for chain in table.chains for rule in chain.rules}
    return found


def rules_of(text: str) -> Iterator[tuple[str, str]]:
    table = ""
    for line in text.splitlines():
        if line.startswith("*"):
            table = line[1:]
        elif line.startswith("-A"):
            yield table, line


@pytest.mark.parametrize("scenario", RECORDED)
def test_recorded_rules_are_read_as_iptables_save_printed_them_and_go_without_a_trace(
    kernel: Kernel, scenario: str
) -> None:
    for families in json.loads((DATA / "packet_filter" / f"{scenario}.json").read_text()).values():
        for command, family in (("iptables", 4), ("ip6tables", 6)):
            restore(families[str(family)], command)
            assert lines(kernel.nftables.observe(NS), family) == set(rules_of(families[str(family)]))
        before = kernel.counters.total()
        assert kernel.nftables.remove(NS) > 20
        assert kernel.counters.total() == before + 1
        assert nft("list", "ruleset") == ""
        assert kernel.nftables.observe(NS) == ()


def test_a_namespace_without_any_has_nothing_and_nothing_is_written(kernel: Kernel) -> None:
    assert kernel.nftables.observe(NS) == ()
    assert kernel.nftables.remove(NS) == 0
    assert kernel.counters.nftables == 0
    with pytest.raises(NamespaceGoneError):
        kernel.nftables.observe("qrouter-gone")


def test_rules_of_others_keep_their_table_and_its_built_in_chains(kernel: Kernel) -> None:
    restore(SMALL)
    for rule in ("-I PREROUTING -p tcp --dport 99 -j ACCEPT", "-A POSTROUTING -o eth9 -j ACCEPT"):
        lab.in_netns(NS, "iptables-nft", "-t", "nat", *rule.split())
    assert kernel.nftables.remove(NS) == 3
    saved = lab.in_netns(NS, "iptables-nft-save", "-t", "nat")
    assert [line for line in saved.splitlines() if line.startswith("-A")] == [
        "-A PREROUTING -p tcp -m tcp --dport 99 -j ACCEPT",
        "-A POSTROUTING -o eth9 -j ACCEPT",
    ]
    assert ":OUTPUT ACCEPT" in saved
    assert "neutron" not in saved


def test_tables_without_its_chains_are_not_touched(kernel: Kernel) -> None:
    restore(SMALL)
    lab.in_netns(NS, "iptables-nft", "-A", "INPUT", "-s", "192.0.2.1", "-j", "DROP")
    nft("add", "table", "inet", "operators")
    nft("add", "chain", "inet", "operators", "neutron-l3-agent-look-alike")
    nft("add", "table", "ip", "empty")
    others = {name: nft("list", "table", *name.split()) for name in ("ip filter", "inet operators", "ip empty")}
    kernel.nftables.remove(NS)
    assert {name: nft("list", "table", *name.split()) for name in others} == others
    assert "table ip nat" not in nft("list", "tables")


@pytest.mark.parametrize(
    "words",
    [
        ["add", "set", "ip", "nat", "friends", "{ type ipv4_addr; }"],
        ["add", "chain", "ip", "nat", "mine"],
        ["add", "chain", "ip", "nat", "late", "{ type nat hook postrouting priority 200; }"],
    ],
)
def test_a_table_with_anything_of_others_stays(kernel: Kernel, words: list[str]) -> None:
    restore(SMALL)
    nft(*words)
    kernel.nftables.remove(NS)
    left = nft("list", "table", "ip", "nat")
    assert "neutron" not in left
    assert "hook prerouting" in left
    assert kernel.nftables.observe(NS) == ()


def test_a_table_with_a_policy_stays(kernel: Kernel) -> None:
    restore("*filter\n:neutron-filter-top - [0:0]\n-A FORWARD -j neutron-filter-top\nCOMMIT\n")
    lab.in_netns(NS, "iptables-nft", "-P", "FORWARD", "DROP")
    assert kernel.nftables.remove(NS) == 1
    assert "hook forward priority filter; policy drop;" in nft("list", "table", "ip", "filter")


def test_a_jump_from_an_operators_own_chain_is_refused_by_name_and_nothing_changes(kernel: Kernel) -> None:
    restore(SMALL)
    lab.in_netns(NS, "iptables-nft", "-t", "nat", "-N", "mine")
    lab.in_netns(NS, "iptables-nft", "-t", "nat", "-A", "mine", "-j", "neutron-l3-agent-snat")
    before = nft("list", "ruleset")
    with pytest.raises(KernelError, match=r"chain neutron-l3-agent-snat: EBUSY .*delete that rule") as caught:
        kernel.nftables.remove(NS)
    assert caught.value.code == errno.EBUSY
    assert nft("list", "ruleset") == before
    assert kernel.counters.nftables == 0


def test_conditional_jumps_in_built_in_chains_go_too(kernel: Kernel) -> None:
    restore(SMALL)
    for flag in ("-j", "-g"):
        lab.in_netns(NS, "iptables-nft", "-t", "nat", "-A", "POSTROUTING", "-o", "lo", flag, "neutron-l3-agent-snat")
    assert kernel.nftables.remove(NS) == 3
    assert nft("list", "ruleset") == ""


def test_a_change_between_reading_and_removing_makes_it_read_again(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody adds a rule of his own to the table meanwhile: it must stay."""
    restore(SMALL)
    tries: list[NftTable] = []

    def interrupted(table: NftTable) -> object:
        if not tries:
            lab.in_netns(NS, "iptables-nft", "-t", "nat", "-A", "PREROUTING", "-i", "eth7", "-j", "ACCEPT")
        tries.append(table)
        return deletions(table)

    monkeypatch.setattr(manager, "deletions", interrupted)
    assert kernel.nftables.remove(NS) == 3
    assert len(tries) == 2
    assert "-A PREROUTING -i eth7 -j ACCEPT" in lab.in_netns(NS, "iptables-nft-save", "-t", "nat")
    assert kernel.counters.nftables == 1


def test_a_rule_set_that_never_holds_still_is_an_error_in_the_end(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    restore(SMALL)
    tries: list[NftTable] = []

    def interrupted(table: NftTable) -> object:
        tries.append(table)
        nft("add", "table", "ip", f"t{len(tries)}")
        return deletions(table)

    monkeypatch.setattr(manager, "deletions", interrupted)
    with pytest.raises(KernelError, match="keeps changing"):
        kernel.nftables.remove(NS)
    assert len(tries) == transaction.TRIES


def test_many_chains_fit_into_one_transaction(kernel: Kernel) -> None:
    """Port forwardings of the other agent have a chain each."""
    names = [f"neutron-l3-agent-pf-{number:05}" for number in range(1500)]
    text = ["*nat", *(f":{name} - [0:0]" for name in names), *(f"-A PREROUTING -j {name}" for name in names)]
    restore("\n".join([*text, "COMMIT", ""]))
    assert kernel.nftables.remove(NS) == 1500
    assert nft("list", "ruleset") == ""
    assert kernel.counters.nftables == 1


def test_a_kernel_without_nf_tables_has_nothing_and_is_asked_once(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it answers is what any kernel answers for a part of netfilter that it does not have."""
    restore(SMALL)
    unknown = 200 << 8
    asked: list[int] = []

    def dump(kind: int, what: str) -> object:
        asked.append(kind)
        return message.dump(unknown | kind & 0xFF, what)

    monkeypatch.setattr(manager, "dump", dump)
    assert kernel.nftables.observe(NS) == ()
    assert kernel.nftables.observe(NS) == ()
    assert kernel.nftables.remove(NS) == 0
    assert len(asked) == 1
