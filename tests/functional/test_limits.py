"""Bandwidth limits on the real kernel: they are what documents ask for, survive, come back, and limit."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dvr_agent.errors import KernelError
from dvr_agent.kernel.drift_events import DriftEvents
from dvr_agent.kernel.host_limits import HostLimits
from dvr_agent.kernel.linux import open_kernel
from dvr_agent.kernel.netlink.transport import NetlinkSocket
from dvr_agent.kernel.nftables import limit_messages, limit_probe, limits, transaction
from dvr_agent.kernel.nftables.limit_probe import choose_layout
from dvr_agent.kernel.nftables.limits import HostLayout
from dvr_agent.reconcile.drift import DriftJudge
from dvr_agent.reconcile.handover import find_own_objects, remove_own_objects
from dvr_agent.state.diff import Action, Change
from dvr_agent.state.limit import Direction, Limit, make_limit
from dvr_agent.state.ownership import Ownership
from tests.support import lab
from tests.support.contract_world import FAR, NEAR, A, B, add, change, join, remove
from tests.support.nft_limits import limit_handles, nft_limits
from tests.support.qos_recordings import QG, RECORDED, RFP
from tests.support.qos_site import QROUTER, ROUTER, SNAT, start
from tests.support.recorded_documents import load_features

EVERYTHING = Ownership(limited=("rfp-", "qg-"))
OTHER = make_limit(NEAR, "leaving", "203.0.113.6", 1000, 800)


def present() -> set[Limit]:
    return nft_limits(QROUTER) | nft_limits(SNAT)


CHAIN, MAP = f"leaving_{RFP}".replace("-", "_"), f"entering_{RFP}".replace("-", "_")
DAMAGE = (
    "flush ruleset",
    f"flush chain netdev dvr_qos {CHAIN}",
    f"delete element netdev dvr_qos {MAP} {{ 203.0.113.240 }}",
    f"insert rule netdev dvr_qos {CHAIN} accept",
    f"delete chain netdev dvr_qos {CHAIN}",  # older kernels do so with the device
)


def test_what_another_program_breaks_is_found_and_mended(host: lab.Host, tmp_path: Path) -> None:
    reconciler, router = start(host, tmp_path), load_features("q5_qos", "compute1")
    reconciler.reconcile(router)
    for command in DAMAGE:
        assert reconciler.find_changed_tables([ROUTER]) == []
        lab.in_netns(QROUTER, "nft", command)
        assert reconciler.find_changed_tables([ROUTER]) == [ROUTER]
        reconciler.reconcile(router)
        assert present() == RECORDED["q5_qos", "compute1"], command


def test_what_another_program_breaks_is_heard(host: lab.Host, tmp_path: Path) -> None:
    reconciler, router = start(host, tmp_path), load_features("q5_qos", "compute1")
    events = DriftEvents(nftables=True)
    judge = DriftJudge(events, reconciler.memory, reconciler.attach, reconciler.table_check)
    with contextlib.closing(judge):
        for command in DAMAGE:
            reconciler.reconcile(router)
            judge.job_ended(ROUTER)
            assert not judge.judge(ROUTER).findings
            lab.in_netns(QROUTER, "nft", command)
            found = judge.judge().findings
            assert {(one.router_id, one.author.program) for one in found} == {(ROUTER, "nft")}, command
            assert any("limit" in one.text for one in found)


def test_what_another_program_adds_to_the_table_goes_with_the_next_change(host: lab.Host) -> None:
    kernel = open_kernel()
    join(kernel)
    add(kernel, A, OTHER)
    lab.in_netns(
        A, "nft", "add chain netdev dvr_qos other; add limit netdev dvr_qos other { rate over 1 mbytes/second; }"
    )
    assert kernel.interfaces.limits(A, EVERYTHING) == {OTHER}
    change(kernel, A, OTHER, OTHER._replace(rate=250_000, burst=250_000))
    assert nft_limits(A) == {OTHER._replace(rate=250_000, burst=250_000)}
    assert len(limit_handles(A)) == 1


def test_a_device_that_is_made_anew_is_limited_as_before(host: lab.Host, tmp_path: Path) -> None:
    reconciler, router = start(host, tmp_path), load_features("q5_qos", "compute1")
    reconciler.reconcile(router)
    lab.run("ip", "-n", QROUTER, "link", "delete", RFP)
    lab.run("ip", "-n", SNAT, "link", "delete", QG)
    reconciler.reconcile(router)
    assert present() == RECORDED["q5_qos", "compute1"]
    assert not any(reconciler.reconcile(router).plan.changes)


def test_limits_that_stay_keep_their_tokens(host: lab.Host) -> None:
    kernel = open_kernel()
    join(kernel)
    kept, old = make_limit(NEAR, "leaving", "203.0.113.5", 1000, 8000), OTHER
    add(kernel, A, kept, old, make_limit(NEAR, "entering", "203.0.113.5", 1000, 800))
    (name,) = (one for one in limit_handles(A) if "leaving" in one and "203.0.113.5_" in one)
    handle, written = limit_handles(A)[name], kernel.counters.nftables
    change(kernel, A, old, old._replace(rate=250_000, burst=250_000))
    remove(kernel, A, make_limit(NEAR, "entering", "203.0.113.5", 1000, 800))
    assert limit_handles(A)[name] == handle
    assert nft_limits(A) == {kept, old._replace(rate=250_000, burst=250_000)}
    assert kernel.counters.nftables == written + 2


def test_a_change_that_another_program_interrupts_is_made_again(
    host: lab.Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = open_kernel()
    join(kernel)
    read, calls = transaction.read_generation, list[int]()

    def read_early(sock: NetlinkSocket) -> int | None:
        generation = read(sock)
        calls.append(1)
        if len(calls) == 1:
            lab.in_netns(A, "nft", "add table inet other")
        return generation

    monkeypatch.setattr(limits, "read_generation", read_early)
    add(kernel, A, OTHER)
    assert (nft_limits(A), len(calls)) == ({OTHER}, 2)


@pytest.mark.parametrize("layout", [limit_messages.AT_DEVICES, limit_messages.AROUND_NAT], ids=["device", "nat"])
def test_a_rule_without_counter_stays_until_the_next_change(
    host: lab.Host, monkeypatch: pytest.MonkeyPatch, layout: limit_messages.Layout
) -> None:
    """It is of an earlier version, or of a kernel that cannot count."""
    old, new = (limit_messages.LimitMessages(layout._replace(counts=counts)) for counts in (False, True))
    monkeypatch.setattr(HostLayout, "messages", old)
    kernel = open_kernel()
    join(kernel)
    other = OTHER._replace(address="203.0.113.7")
    add(kernel, A, OTHER, OTHER._replace(direction="entering"))
    listing = ("nft", "-a", "list", "ruleset")
    before = lab.in_netns(A, *listing)
    assert "counter" not in before
    monkeypatch.setattr(HostLayout, "messages", new)
    assert kernel.interfaces.limits(A, EVERYTHING) == {OTHER, OTHER._replace(direction="entering")}
    assert kernel.interfaces.limit_drops(A) == ()
    assert lab.in_netns(A, *listing) == before
    written = kernel.counters.nftables
    add(kernel, A, other)
    after = lab.in_netns(A, *listing)
    assert kernel.counters.nftables == written + 1
    assert after.count("counter } drop") == 2
    kept = [line for line in before.splitlines() if line.startswith("\tlimit ")]
    assert set(kept) < set(after.splitlines()), "limits that are in use keep their tokens"
    remove(kernel, A, OTHER, OTHER._replace(direction="entering"), other)
    assert "dvr_qos" not in lab.in_netns(A, "nft", "list", "tables")


def test_hundreds_of_limits_are_one_transaction_and_one_rule(host: lab.Host) -> None:
    kernel = open_kernel()
    join(kernel)
    many = [make_limit(NEAR, "leaving", f"203.0.{1 + n // 250}.{n % 250}", 1000 + n, 800) for n in range(1000)]
    before = kernel.counters.nftables
    add(kernel, A, *many)
    assert kernel.counters.nftables == before + 1
    assert nft_limits(A) == set(many) == kernel.interfaces.limits(A, EVERYTHING)
    kernel.interfaces.apply(A, [Change(Action.REMOVE, one, one) for one in many])
    assert nft_limits(A) == set()
    assert "dvr_qos" not in lab.in_netns(A, "nft", "list", "tables")


def test_a_limit_that_the_kernel_refuses_is_named_and_the_others_are_made(host: lab.Host) -> None:
    kernel = open_kernel()
    join(kernel)
    wrong = OTHER._replace(rate=2**62, burst=2**62)
    with pytest.raises(KernelError, match=r"limit from 203\.0\.113\.6 leaving"):
        add(kernel, A, wrong, make_limit(NEAR, "leaving", "203.0.113.5", 1000, 800))
    assert nft_limits(A) == {make_limit(NEAR, "leaving", "203.0.113.5", 1000, 800)}


@pytest.fixture
def old_kernel(host: lab.Host, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A kernel without the hook for what leaves a device."""
    monkeypatch.setattr(limit_probe, "AT_DEVICES", limit_messages.AT_DEVICES._replace(hooks=NO_HOOKS))
    yield
    HostLayout.choose(limit_messages.AT_DEVICES)


NO_HOOKS: dict[Direction, tuple[int, int]] = {"entering": (0, 0), "leaving": (7, 0)}


def test_this_kernel_can_limit_at_devices(host: lab.Host) -> None:
    assert choose_layout() == ""
    assert HostLayout.messages.layout is limit_messages.AT_DEVICES


def test_a_kernel_that_cannot_says_what_it_needs(old_kernel: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limit_probe, "AROUND_NAT", limit_messages.AROUND_NAT._replace(hooks=NO_HOOKS))
    monkeypatch.setattr(limit_probe, "_DEVICE", "missing")
    monkeypatch.setattr(HostLimits, "reason", "")
    said = choose_layout()
    assert "CONFIG_NETFILTER_EGRESS (Linux 5.16)" in said
    assert "; or CONFIG_NET_SCH_INGRESS, CONFIG_NET_CLS_U32 and CONFIG_NET_ACT_POLICE: " in said
    assert "tc qdisc dev missing clsact" in said
    assert (HostLimits.by_tc, HostLimits.reason) == (False, f"none: {said}")


def test_a_kernel_without_a_hook_for_what_leaves_limits_around_nat(old_kernel: None) -> None:
    assert choose_layout() == ""
    kernel = open_kernel()
    join(kernel)
    entering = make_limit(NEAR, "entering", "203.0.113.6", 1000, 800)
    add(kernel, A, OTHER, entering)
    assert kernel.interfaces.limits(A, EVERYTHING) == {OTHER, entering}
    assert lab.in_netns(A, "nft", "list", "tables") == "table ip dvr_qos\n"
    name = OTHER.device.replace("-", "_")
    listed = lab.in_netns(A, "nft", "list", "table", "ip", "dvr_qos")
    counts = {"saddr": f"add @dropped_leaving_{name} {{ ip saddr counter }} drop"}
    counts["daddr"] = f"add @dropped_entering_{name} {{ ip daddr counter }} drop"
    assert f'oifname "{NEAR}" limit name ip saddr map @leaving_{name} {counts["saddr"]}' in listed
    assert f'iifname "{NEAR}" limit name ip daddr map @entering_{name} {counts["daddr"]}' in listed
    before = kernel.counters.total()
    add(kernel, A, OTHER)
    assert kernel.counters.total() == before
    remove(kernel, A, OTHER, entering)
    assert lab.in_netns(A, "nft", "list", "tables") == ""


def test_filters_of_neutron_l3_agent_go_when_ours_are_in(host: lab.Host, tmp_path: Path) -> None:
    """Where the kernel has no police action the filters are without; neutron-l3-agent's are recognised by the rest."""
    reconciler, router = start(host, tmp_path), load_features("q5_qos", "compute1")
    reconciler.reconcile(router)
    for namespace, device, address in ((QROUTER, RFP, "203.0.113.240"), (SNAT, QG, "203.0.113.34")):
        tc = ("tc", "-n", namespace)
        lab.run(*tc, "qdisc", "add", "dev", device, "root", "handle", "8001:", "htb", "default", "10")
        lab.run(*tc, "qdisc", "add", "dev", device, "ingress")
        for parent, side in (("8001:", "src"), ("ffff:", "dst")):
            add_filter = (*tc, "filter", "add", "dev", device, "parent", parent, "protocol", "ip")
            match = ("prio", "1", "u32", "match", "ip", side, address)
            police = ("police", "rate", "1000kbit", "burst", "800kbit", "mtu", "64kb", "drop")
            lab.run(*add_filter, *match, *police, "flowid", ":1", check=False)
            if "match" not in lab.run(*tc, "filter", "show", "dev", device, "parent", parent):
                lab.run(*add_filter, *match, "flowid", ":1")
            lab.run(*add_filter, "prio", "1", "u32", "match", "ip", "protocol", "6", "0xff", "flowid", ":1")
            lab.run(*add_filter, "prio", "2", "u32", "match", "ip", side, address, "flowid", ":1")
    result = start(host, tmp_path).reconcile(router)
    gone = [change.text for part in result.plan.changes for change in part.items]
    assert sorted(gone) == [
        f"- tc filter dev {QG} parent 8001: handle 800::800 match ip src 203.0.113.34",
        f"- tc filter dev {QG} parent ffff: handle 800::800 match ip dst 203.0.113.34",
        f"- tc filter dev {RFP} parent 8001: handle 800::800 match ip src 203.0.113.240",
        f"- tc filter dev {RFP} parent ffff: handle 800::800 match ip dst 203.0.113.240",
    ]
    for namespace, device in ((QROUTER, RFP), (SNAT, QG)):
        for parent in ("8001:", "ffff:"):
            left = lab.run("tc", "-n", namespace, "filter", "show", "dev", device, "parent", parent)
            assert left.count("match") == 2  # those of others
    assert not any(reconciler.reconcile(router).plan.changes)


def test_a_handover_removes_limits(host: lab.Host, tmp_path: Path) -> None:
    reconciler, router = start(host, tmp_path), load_features("q5_qos", "compute1")
    reconciler.reconcile(router)
    kernel = open_kernel()
    own = find_own_objects(kernel)
    lines = [line for one in own for line in one.lines()]
    assert {limit.text for limit in RECORDED["q5_qos", "compute1"]} <= set(lines)
    remove_own_objects(kernel, own)
    assert present() == set()
    assert find_own_objects(kernel) == []


RATE, SIZE, COUNT = 800, 1000, 3000
"""kbit/s; bytes of a datagram and their number: thirty times what may pass at once."""
MOST = COUNT * 2 // 3
"""Without a limit more than so many arrive, though a slow machine drops some when its backlog is full."""


@pytest.mark.parametrize("direction", ["leaving", "entering"])
@pytest.mark.parametrize("layout", [limit_messages.AT_DEVICES, limit_messages.AROUND_NAT], ids=["device", "nat"])
def test_what_is_over_is_dropped_and_what_is_not_passes(
    host: lab.Host, monkeypatch: pytest.MonkeyPatch, direction: str, layout: limit_messages.Layout
) -> None:
    monkeypatch.setattr(HostLayout, "messages", limit_messages.LimitMessages(layout))
    kernel = open_kernel()
    join(kernel)
    lab.run("ip", "-n", B, "address", "add", "10.0.0.2/24", "dev", FAR)
    way = (A, B) if direction == "leaving" else (B, A)
    addresses = {A: "10.0.0.1", B: "10.0.0.2"}
    flood = received(*way, addresses[way[1]])
    assert flood() > MOST
    limited = make_limit(NEAR, "leaving" if direction == "leaving" else "entering", "10.0.0.1", RATE, 640)
    add(kernel, A, limited)
    began = time.monotonic()
    number = flood()
    took = time.monotonic() - began
    assert limited.burst / (SIZE + 60) * 0.8 < number < (limited.burst + limited.rate * took) / SIZE * 1.1
    (dropped,) = kernel.interfaces.limit_drops(A)
    assert dropped.is_of(limited.text)
    assert 0 < dropped.packets <= COUNT - number
    add(kernel, A, limited._replace(address="10.0.0.77"))
    remove(kernel, A, limited)
    assert flood() > MOST


def received(sender: str, receiver: str, to: str) -> Callable[[], int]:
    """A function that sends datagrams from one namespace to the other, and counts those that arrive."""
    with lab.entered(receiver):
        sink = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sink.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)  # SO_RCVBUFFORCE
        sink.bind((to, 5000))
        sink.setblocking(False)
    with lab.entered(sender):
        source = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        source.connect((to, 5000))

    def flood() -> int:
        for _ in range(COUNT):
            with contextlib.suppress(PermissionError):  # what is dropped in this very call, after NAT
                source.send(bytes(SIZE))
        found = 0
        while True:
            try:
                sink.recv(SIZE)
            except BlockingIOError:
                return found
            found += 1

    return flood
