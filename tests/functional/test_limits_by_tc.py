"""Bandwidth limits in traffic control on the real kernel, where nf_tables cannot limit or is left aside.

Needs act_police, which not every kernel has: ``make test-vm`` runs these on Debian's, with nf_tables there, and with
``--full`` also without.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dvr_agent.errors import KernelError
from dvr_agent.kernel.host_limits import HostLimits
from dvr_agent.kernel.linux import open_kernel
from dvr_agent.kernel.nftables import limit_messages, limit_probe
from dvr_agent.kernel.nftables.limit_probe import choose_layout, choose_tc
from dvr_agent.kernel.nftables.limits import HostLayout
from dvr_agent.reconcile.handover import find_own_objects, remove_own_objects
from dvr_agent.state.limit import DIRECTIONS, MAX_RATE, Direction, make_limit
from dvr_agent.state.ownership import Ownership
from tests.support import lab
from tests.support.contract_world import FAR, NEAR, A, B, add, change, join, remove
from tests.support.qos_recordings import QG, RECORDED, RFP
from tests.support.qos_site import QROUTER, ROUTER, SNAT, start
from tests.support.recorded_documents import load_features
from tests.support.tc_limits import filters, qdiscs, tc_limits

PLACES = ((QROUTER, RFP), (SNAT, QG))
EVERYTHING = Ownership(limited=("rfp-", "qg-"))
LEAVING = make_limit(NEAR, "leaving", "203.0.113.6", 1000, 800)
ENTERING = make_limit(NEAR, "entering", "203.0.113.6", 2000, 6000)
OTHER = ("protocol", "ip", "prio", "300", "u32", "match", "ip", "protocol", "6", "0xff", "flowid", ":1")


@pytest.fixture(autouse=True)
def by_tc(host: lab.Host) -> Iterator[None]:
    before = HostLimits.by_tc, HostLimits.reason
    if lacking := choose_tc("as this test wants it"):
        pytest.skip(f"this kernel has no police action: {lacking}")
    yield
    HostLimits.by_tc, HostLimits.reason = before


def reconcile(host: lab.Host, state_path: Path, scenario: str = "q5_qos") -> list[str]:
    """Reconcile as an agent that has just started; returns the changes."""
    result = start(host, state_path).reconcile(load_features(scenario, "compute1"))
    return sorted(change.text for part in result.plan.changes for change in part.items)


def present() -> set[object]:
    return {limit for namespace, device in PLACES for limit in tc_limits(namespace, device)}


def test_documents_make_limits_and_a_second_run_writes_nothing(host: lab.Host, tmp_path: Path) -> None:
    reconcile(host, tmp_path)
    assert present() == RECORDED["q5_qos", "compute1"]
    reconciler = start(host, tmp_path)
    before = reconciler.kernel.counters.total()
    assert not reconciler.reconcile(load_features("q5_qos", "compute1")).plan.changes
    assert reconciler.kernel.counters.total() == before
    assert reconciler.find_changed_tables([ROUTER]) == []


def test_a_change_of_policies_replaces_and_removes(host: lab.Host, tmp_path: Path) -> None:
    reconcile(host, tmp_path)
    assert reconcile(host, tmp_path, "q5_qos_changed")
    assert present() == RECORDED["q5_qos_changed", "compute1"]
    assert qdiscs(QROUTER, RFP) == [], "its last limit went"
    reconcile(host, tmp_path, "q5_qos_removed")
    assert present() == set()
    assert qdiscs(SNAT, QG) == []


def test_what_another_program_breaks_is_found_and_mended(host: lab.Host, tmp_path: Path) -> None:
    reconciler, router = start(host, tmp_path), load_features("q5_qos", "compute1")
    tc = ("tc", "-n", QROUTER)
    reconciler.reconcile(router)
    for command in (
        ("qdisc", "delete", "dev", RFP, "clsact"),
        ("filter", "delete", "dev", RFP, "egress"),
        ("filter", "delete", "dev", RFP, "ingress", "protocol", "ip", "prio", "211"),
    ):
        assert reconciler.find_changed_tables([ROUTER]) == []
        lab.run(*tc, *command)
        assert reconciler.find_changed_tables([ROUTER]) == [ROUTER]
        reconciler.reconcile(router)
        assert present() == RECORDED["q5_qos", "compute1"], command


def test_a_changed_filter_of_ours_is_replaced(host: lab.Host) -> None:
    kernel = open_kernel()
    join(kernel)
    add(kernel, A, LEAVING)
    cookie = "6476722d716f733a000000000001e848"
    police = ("action", "police", "rate", "9mbit", "burst", "125000b", "conform-exceed", "drop/ok", "cookie", cookie)
    replaced = ("protocol", "ip", "prio", "210", "handle", "800::800", "u32", "match", "ip", "src", LEAVING.address)
    lab.run("tc", "-n", A, "filter", "replace", "dev", NEAR, "egress", *replaced, *police)
    (found,) = kernel.interfaces.limits(A, EVERYTHING)
    assert (found.address, found.rate) == (LEAVING.address, 0)
    change(kernel, A, found, LEAVING)
    assert tc_limits(A, NEAR) == {LEAVING} == kernel.interfaces.limits(A, EVERYTHING)


def test_a_changed_limit_is_replaced_in_its_place(host: lab.Host) -> None:
    kernel = open_kernel()
    join(kernel)
    add(kernel, A, LEAVING, ENTERING)
    handles = filters(A, NEAR, "egress").count("fh 800::800 ")
    change(kernel, A, LEAVING, LEAVING._replace(rate=250_000, burst=250_000))
    assert tc_limits(A, NEAR) == {LEAVING._replace(rate=250_000, burst=250_000), ENTERING}
    assert filters(A, NEAR, "egress").count("fh 800::800 ") == handles == 1


def test_rates_above_32_bits_and_odd_bursts_are_read_as_they_were_written(host: lab.Host) -> None:
    kernel = open_kernel()
    join(kernel)
    limits = [
        LEAVING._replace(rate=MAX_RATE, burst=MAX_RATE + 12345),
        ENTERING._replace(rate=4_999_999_999, burst=4_999_999_999),
        LEAVING._replace(address="203.0.113.7", rate=125, burst=65_536),
        ENTERING._replace(address="203.0.113.7", rate=1_234_567_890, burst=2_345_678_901),
    ]
    add(kernel, A, *limits)
    assert kernel.interfaces.limits(A, EVERYTHING) == set(limits)


def test_hundreds_of_limits(host: lab.Host) -> None:
    kernel = open_kernel()
    join(kernel)
    many = [make_limit(NEAR, "leaving", f"203.0.{1 + n // 250}.{n % 250}", 1000 + n, 800) for n in range(500)]
    add(kernel, A, *many)
    assert kernel.interfaces.limits(A, EVERYTHING) == set(many)
    listed = {(limit.address, limit.rate) for limit in tc_limits(A, NEAR)}  # it rounds bursts
    assert listed == {(limit.address, limit.rate) for limit in many}
    remove(kernel, A, *many)
    assert (tc_limits(A, NEAR), qdiscs(A, NEAR)) == (set(), [])


def test_filters_of_other_programs_stay_and_so_does_the_qdisc(host: lab.Host) -> None:
    kernel = open_kernel()
    join(kernel)
    tc = ("tc", "-n", A)
    lab.run(*tc, "qdisc", "add", "dev", NEAR, "clsact")
    lab.run(*tc, "filter", "add", "dev", NEAR, "egress", *OTHER)
    before = filters(A, NEAR, "egress")
    add(kernel, A, LEAVING, ENTERING)
    assert kernel.interfaces.limits(A, EVERYTHING) == {LEAVING, ENTERING}
    remove(kernel, A, LEAVING, ENTERING)
    assert filters(A, NEAR, "egress") == before
    assert qdiscs(A, NEAR) == ["clsact"]


def test_an_ingress_qdisc_with_filters_of_other_programs_is_left_alone(host: lab.Host) -> None:
    kernel = open_kernel()
    join(kernel)
    tc = ("tc", "-n", A)
    lab.run(*tc, "qdisc", "add", "dev", NEAR, "ingress")
    lab.run(*tc, "filter", "add", "dev", NEAR, "parent", "ffff:", *OTHER)
    before = filters(A, NEAR, "ingress")
    with pytest.raises(KernelError, match=f"tc qdisc dev {NEAR} clsact in place of ingress, which has"):
        add(kernel, A, LEAVING)
    assert (filters(A, NEAR, "ingress"), qdiscs(A, NEAR)) == (before, ["ingress"])


def test_a_limit_of_a_device_that_is_gone_is_no_error_to_remove(host: lab.Host) -> None:
    kernel = open_kernel()
    join(kernel)
    add(kernel, A, LEAVING)
    remove(kernel, A, LEAVING._replace(device="rfp-other"))
    with pytest.raises(KernelError, match="rfp-other"):
        add(kernel, A, LEAVING._replace(device="rfp-other"))
    lab.run("ip", "-n", A, "link", "delete", NEAR)
    remove(kernel, A, LEAVING)
    assert kernel.interfaces.limits(A, EVERYTHING) == set()


def add_neutron_filters() -> None:
    """What neutron-l3-agent makes, on both devices."""
    for (namespace, device), address in zip(PLACES, ("203.0.113.240", "203.0.113.34"), strict=True):
        tc = ("tc", "-n", namespace)
        lab.run(*tc, "qdisc", "replace", "dev", device, "root", "handle", "8001:", "htb")
        lab.run(*tc, "qdisc", "add", "dev", device, "ingress")
        for parent, side in (("8001:", "src"), ("ffff:", "dst")):
            match = ("protocol", "ip", "prio", "1", "u32", "match", "ip", side, address)
            police = ("police", "rate", "1000kbit", "burst", "800kb", "mtu", "64kb", "drop", "flowid", ":1")
            lab.run(*tc, "filter", "add", "dev", device, "parent", parent, *match, *police)


def test_a_takeover_removes_the_filters_of_neutron_l3_agent(host: lab.Host, tmp_path: Path) -> None:
    reconcile(host, tmp_path)
    for namespace, device in PLACES:
        lab.run("tc", "-n", namespace, "qdisc", "delete", "dev", device, "clsact")
    add_neutron_filters()
    changes = reconcile(host, tmp_path)
    limits, gone = ([one for one in changes if ("tc filter" in one) == of_tc] for of_tc in (False, True))
    assert (len(limits), len(gone)) == (6, 4)
    assert present() == RECORDED["q5_qos", "compute1"]
    for namespace, device in PLACES:
        assert qdiscs(namespace, device) == ["htb", "clsact"]
        assert "match" not in lab.run("tc", "-n", namespace, "filter", "show", "dev", device, "parent", "8001:")
    assert reconcile(host, tmp_path) == []


def test_a_handover_leaves_room_for_neutron_l3_agent(host: lab.Host, tmp_path: Path) -> None:
    reconcile(host, tmp_path)
    kernel = open_kernel()
    own = find_own_objects(kernel)
    assert {limit.text for limit in RECORDED["q5_qos", "compute1"]} <= {line for one in own for line in one.lines()}
    remove_own_objects(kernel, own)
    assert find_own_objects(kernel) == []
    assert [qdiscs(*place) for place in PLACES] == [[], []]
    add_neutron_filters()


NO_HOOKS: dict[Direction, tuple[int, int]] = {"entering": (0, 0), "leaving": (7, 0)}


def test_a_kernel_whose_nf_tables_cannot_limit_limits_by_tc(host: lab.Host, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AT_DEVICES", "AROUND_NAT"):
        monkeypatch.setattr(limit_probe, name, getattr(limit_messages, name)._replace(hooks=NO_HOOKS))
    assert choose_layout() == ""
    HostLayout.choose(limit_messages.AT_DEVICES)
    assert HostLimits.by_tc
    assert "police filters of tc, since nf_tables cannot limit: " in HostLimits.reason


def nftables_limits() -> bool:
    """Use nf_tables from now on, if this kernel can."""
    choose_layout()
    return not HostLimits.by_tc


def test_limits_in_traffic_control_go_once_those_in_nf_tables_are_there(host: lab.Host, tmp_path: Path) -> None:
    reconcile(host, tmp_path)
    lab.run("tc", "-n", SNAT, "filter", "add", "dev", QG, "egress", *OTHER)
    if not nftables_limits():
        assert reconcile(host, tmp_path) == []
        return
    gone = [one for one in reconcile(host, tmp_path) if one.startswith("- tc")]
    assert f"- tc qdisc dev {RFP} clsact" in gone
    assert len(gone) == 1 + 4
    assert (present(), qdiscs(QROUTER, RFP), qdiscs(SNAT, QG)) == (set(), [], ["clsact"])
    assert reconcile(host, tmp_path) == []


SECONDS = 5
"""The length of a flow.  How near the rate it comes is measured by bench/limits.py: a slow machine sends less."""


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM], ids=["UDP", "TCP"])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_what_is_over_is_dropped_and_counted(host: lab.Host, direction: Direction, kind: socket.SocketKind) -> None:
    kernel = open_kernel()
    join(kernel)
    lab.run("ip", "-n", B, "address", "add", "10.0.0.2/24", "dev", FAR)
    limit = make_limit(NEAR, direction, "10.0.0.1", 1000, 800)
    add(kernel, A, limit)
    way = (A, "10.0.0.1", B, "10.0.0.2") if direction == "leaving" else (B, "10.0.0.2", A, "10.0.0.1")
    number, took = flow(*way, kind)
    assert limit.burst * 0.9 < number < (limit.burst + limit.rate * took) * 1.1
    (dropped,) = kernel.interfaces.limit_drops(A)
    assert dropped.is_of(limit.text)
    assert dropped.packets > 0


def flow(sender: str, source_ip: str, receiver: str, to: str, kind: socket.SocketKind) -> tuple[int, float]:
    """Send as much as passes; returns the bytes that arrived, as the limit counts them, and the time."""
    with lab.entered(receiver):
        sink = socket.socket(socket.AF_INET, kind)
    sink.bind((to, 5000))
    with lab.entered(sender):
        source = socket.socket(socket.AF_INET, kind)
    source.bind((source_ip, 0))
    if kind == socket.SOCK_STREAM:
        sink.listen(1)
        source.connect((to, 5000))
        listener, (sink, _) = sink, sink.accept()
        listener.close()
    else:
        source.connect((to, 5000))
    sink.settimeout(1.0)
    ending = threading.Event()
    thread = threading.Thread(target=_send, args=(source, kind, ending))
    thread.start()
    began, found = time.monotonic(), 0
    while (took := time.monotonic() - began) < SECONDS:
        try:
            found += len(sink.recv(1 << 16)) + (HEADERS if kind == socket.SOCK_DGRAM else 0)
        except TimeoutError:
            continue
    ending.set()
    thread.join()
    sink.close()
    source.close()
    return found, took


HEADERS = 28
"""Bytes of a datagram's IP and UDP headers."""


def _send(source: socket.socket, kind: socket.SocketKind, ending: threading.Event) -> None:
    source.settimeout(1.0)
    while not ending.wait(0.0005 if kind == socket.SOCK_DGRAM else 0):
        try:
            source.send(bytes(1400 if kind == socket.SOCK_DGRAM else 65536))
        except OSError:
            continue
