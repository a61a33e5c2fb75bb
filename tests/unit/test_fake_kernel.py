"""The fake kernel's own part: failures on demand and the log; what it shares with the real one is in tests/contract."""

from __future__ import annotations

import errno

import pytest

from dvr_agent.errors import KernelError
from dvr_agent.kernel.fake import fake_kernel
from dvr_agent.kernel.fake.faults import METHODS
from dvr_agent.state.diff import Action, Change
from dvr_agent.state.filter import FilterRule, Table, Verdict
from dvr_agent.state.filter_runs import make_table
from dvr_agent.state.link import Link
from dvr_agent.state.neighbour import Neighbour
from dvr_agent.state.ownership import Ownership
from dvr_agent.state.rule import KERNEL_RULES, Rule

RULES = [Rule(4, 33000 + n, 16, f"10.0.0.{n}/32") for n in range(4)]
ADDS = [Change(Action.ADD, rule) for rule in RULES]
TABLES = [make_table(4, name, {"PREROUTING": (FilterRule(Verdict("ACCEPT")),)}) for name in ("mangle", "nat", "raw")]


def test_the_nth_call_fails_once_and_others_do_not() -> None:
    kernel, fake = fake_kernel()
    fake.fail("namespaces.create", nth=2)
    kernel.namespaces.create("a")
    with pytest.raises(KernelError, match="namespace b") as caught:
        kernel.namespaces.create("b")
    assert caught.value.code == errno.EIO
    kernel.namespaces.create("b")
    assert kernel.namespaces.list() == ["a", "b"]


def test_only_calls_that_match_count_and_fail() -> None:
    kernel, fake = fake_kernel()
    fake.fail("namespaces.create", nth=2, when=lambda name: name.startswith("snat-"), error=KernelError("", "x", 12))
    for name in ("qrouter-1", "snat-1", "qrouter-2"):
        kernel.namespaces.create(name)
    with pytest.raises(KernelError, match="ENOMEM"):
        kernel.namespaces.create("snat-2")


def test_a_lasting_failure_ends_when_healed() -> None:
    kernel, fake = fake_kernel()
    fake.fail("namespaces.list", times=None)
    for _ in range(3):
        with pytest.raises(KernelError):
            kernel.namespaces.list()
    fake.heal()
    assert kernel.namespaces.list() == []


def test_a_refused_object_does_not_stop_the_rest_of_its_batch() -> None:
    kernel, fake = fake_kernel()
    kernel.namespaces.create("a")
    fake.fail("interfaces.change", nth=3)
    with pytest.raises(KernelError):
        kernel.interfaces.apply("a", ADDS)
    assert fake["a"].rules[len(KERNEL_RULES) :] == [*RULES[:2], *RULES[3:]]


def test_a_block_can_break_between_two_tables() -> None:
    kernel, fake = fake_kernel()
    kernel.namespaces.create("a")
    fake.fail("iptables.commit", nth=2)

    def block() -> None:
        with kernel.packet_filter.defer_apply() as pending:
            for table in TABLES:
                pending.replace("a", table)

    with pytest.raises(KernelError):
        block()
    assert kernel.packet_filter.observe("a", [table.key for table in TABLES]) == (
        TABLES[0],
        Table(4, "nat"),
        Table(4, "raw"),
    )


def test_the_log_keeps_the_order_of_calls() -> None:
    kernel, fake = fake_kernel()
    kernel.namespaces.create("a")
    kernel.interfaces.apply("a", ADDS[:2])
    assert kernel.interfaces.observe("a", Ownership(), ()) is not None
    assert [call.method for call in fake.calls()] == [
        "namespaces.create",
        "interfaces.apply",
        "interfaces.change",
        "interfaces.change",
        "interfaces.observe",
    ]
    assert [call.args[1].item for call in fake.calls("interfaces.change")] == RULES[:2]
    fake.forget_calls()
    assert fake.calls() == []


def test_a_method_that_does_not_exist_cannot_be_made_to_fail() -> None:
    _, fake = fake_kernel()
    with pytest.raises(ValueError, match=METHODS[0]):
        fake.fail("namespaces.destroy")


def test_connections_are_deleted_by_any_of_their_four_addresses() -> None:
    kernel, fake = fake_kernel()
    kernel.namespaces.create("a")
    fake["a"].connections += [
        ("1.1.1.1", "2.2.2.2", "3.3.3.3", "1.1.1.1"),
        ("1.1.1.2", "2.2.2.2", "2.2.2.2", "1.1.1.2"),
    ]
    assert kernel.conntrack.delete("a", "3.3.3.3") == 1
    assert kernel.conntrack.delete("a", "3.3.3.3") == 0
    assert kernel.conntrack.delete("a", "2.2.2.2") == 1


def test_a_port_is_the_attach_drivers_work() -> None:
    kernel, fake = fake_kernel()
    kernel.namespaces.create("a")
    link = Link("qr-a", "fa:16:3e:00:00:01", 1500)
    with pytest.raises(ValueError, match="attach driver"):
        kernel.interfaces.apply("a", [Change(Action.ADD, link)])
    fake.add_link("a", link.name, link.mac)
    state = kernel.interfaces.observe("a", Ownership(prefixes=("qr-",)), ())
    assert state is not None
    assert state.links == {link}


def test_the_operator_can_act_behind_the_agents_back() -> None:
    kernel, fake = fake_kernel()
    kernel.namespaces.create("a")
    fake.add_link("a", "qr-a", "fa:16:3e:00:00:01")
    kernel.interfaces.apply("a", [Change(Action.ADD, Neighbour("10.0.0.1", "qr-a", "fa:16:3e:00:00:02"))])
    fake.world.remove_link("a", "qr-a")
    assert fake["a"].neighbours == {}
