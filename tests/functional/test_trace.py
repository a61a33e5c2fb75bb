"""``dvrctl trace`` as an operator uses it, on a router that the agent has built in a real kernel."""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from dvr_agent.cli.ctl import main
from dvr_agent.kernel.live.watch import send
from dvr_agent.kernel.survey.connections import read_connection
from dvr_agent.trace.packet import PROTOCOLS, make_packet
from tests.support import lab
from tests.support.filter_tools import saved, uses_nftables
from tests.support.packet_documents import Network
from tests.support.packet_world import INTERNET, PUBLIC, World, fip_namespace
from tests.support.waiting import wait_for

RED = Network("red", ("10.1.0.0/24", "2001:db8:1::/64"))
BLUE = Network("blue", ("10.2.0.0/24",))
FIP, GATEWAY = "203.0.113.51", "203.0.113.10"
TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
"""include/uapi/linux/if_tun.h"""
DNAT = "nft ip dvr PREROUTING" if uses_nftables() else "nat PREROUTING"
"""Where the destination of a floating IP is translated."""
ARRIVES, ERROR, DROPPED, UNKNOWN, USAGE = 0, 1, 2, 3, 64


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with lab.fresh_host() as host:
        world = World(host, tmp_path_factory.mktemp("world"))
        red, blue = world.cloud.vm("red", RED, "10.1.0.11", "2001:db8:1::11"), world.cloud.vm("blue", BLUE, "10.2.0.11")
        tap = world.cloud.vm("tap", RED, "10.1.0.12")
        router = world.cloud.router("main", RED, BLUE).gateway(PUBLIC, GATEWAY, "2001:db8:f::10")
        world.apply(router.floating_ip(FIP, red))
        world.boot(red, blue)
        # As nova makes the tap device of an instance: its MAC address is the instance's but for the first octet.
        lab.run("ip", "tuntap", "add", "tap-of-vm", "mode", "tap")
        lab.run("ip", "link", "set", "tap-of-vm", "address", f"fe{tap.mac[2:]}", "master", RED.bridge, "up")
        world.settle()
        with open_tap("tap-of-vm"):
            yield world


@contextlib.contextmanager
def open_tap(name: str) -> Iterator[None]:
    """Hold a tap device as the process of an instance does: without one it has no carrier."""
    with open("/dev/net/tun", "r+b", buffering=0) as held:
        fcntl.ioctl(held, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI))
        yield


class Done(NamedTuple):
    """What a command ended with."""

    returncode: int
    stdout: str
    stderr: str


def ctl(*words: str) -> Done:
    """Run dvrctl in this process, which is in the host's namespace: a process of its own takes a second to start."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(["trace", *words])
    return Done(code, out.getvalue(), err.getvalue())


def traced(code: int, *words: str) -> Any:
    done = ctl("-o", "json", *words)
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout)


def places(way: Any, where: str) -> list[str]:
    return [hop["text"] for hop in way["hops"] if hop["where"] == where]


def kernel_state() -> str:
    """What the agent and others have in all namespaces, without counters and learned neighbours."""
    commands = (
        "ip link",
        "ip route show table all",
        "ip rule",
        "ip -6 rule",
        "nft list ruleset",
        "iptables-legacy-save",
    )
    spaces = sorted(path.name for path in lab.NETNS.iterdir())
    texts = [lab.in_netns(name, "sh", "-c", command) for name in spaces for command in commands]
    return "\n".join(line for text in texts for line in text.splitlines() if not line.startswith(("#", ":")))


def test_way_to_a_floating_ip_and_back_shows_namespaces_rules_and_translations(world: World) -> None:
    found = traced(ARRIVES, "--from", INTERNET, "--to", FIP, "--dport", "80", "--reply")
    way, reply = found["way"], found["reply"]
    qrouter = world.cloud.router("main").qrouter
    assert list(dict.fromkeys(hop["namespace"] for hop in way["hops"])) == ["internet", fip_namespace(), qrouter, "red"]
    (dnat,) = [hop for hop in way["hops"] if hop["where"] == DNAT and FIP in hop["text"]]
    assert (f"ip daddr {FIP}" if uses_nftables() else f"-d {FIP}/32") in dnat["text"]
    assert (dnat["before"]["dst"], dnat["after"]["dst"]) == (FIP, "10.1.0.11")
    assert way["packet"]["src"] == INTERNET
    assert reply["outcome"] == "delivered"
    assert (reply["packet"]["src"], reply["packet"]["dst"], reply["packet"]["sport"]) == (FIP, INTERNET, 80)
    rules = saved(qrouter)
    assert uses_nftables() or dnat["text"] in rules, "the rule is as iptables prints it"


def test_table_prints_one_line_for_each_hop(world: World) -> None:
    done = ctl("--from", "10.2.0.11", "--to", INTERNET, "--proto", "udp", "--dport", "53")
    lines = done.stdout.splitlines()
    assert done.returncode == ARRIVES
    assert lines[0] == "blue"
    target = "snat to" if uses_nftables() else "-j SNAT --to-source"
    assert any(f"{target} 203.0.113.10" in line and "becomes 203.0.113.10" in line for line in lines)
    assert lines[-2] == "delivered: internet takes it in by eth0"
    assert lines[-1] == "  there it is 203.0.113.10:40000 → 203.0.113.1:53"


def test_a_route_of_another_program_is_marked_with_its_protocol(world: World) -> None:
    qrouter = world.cloud.router("main").qrouter
    device = lab.ip_json("route", "show", "10.1.0.0/24", netns=qrouter)[0]["dev"]
    lab.run("ip", "-n", qrouter, "route", "add", "10.1.0.11/32", "dev", device, "proto", "bird")
    try:
        hops = traced(ARRIVES, "--from", INTERNET, "--to", FIP, "--dport", "80")["way"]["hops"]
    finally:
        lab.run("ip", "-n", qrouter, "route", "del", "10.1.0.11/32", "dev", device, "proto", "bird")
    assert f"10.1.0.11/32 dev {device} proto bird" in [hop["text"] for hop in hops if hop["where"] == "route"]
    assert not [hop for hop in hops if hop["where"] == "neighbour" and hop["text"].startswith("neighbour")]


def test_instance_behind_a_tap_device_is_where_the_way_ends(world: World) -> None:
    way = traced(ARRIVES, "--from", "10.2.0.11", "--to", "10.1.0.12")["way"]
    assert way["outcome"] == "leaves"
    assert "tap-of-vm" in way["reason"]


def test_stopped_instance_is_named_as_the_device_without_carrier(world: World) -> None:
    lab.run("ip", "link", "set", "tap-of-vm", "down")
    try:
        way = traced(DROPPED, "--from", "10.2.0.11", "--to", "10.1.0.12")["way"]
    finally:
        lab.run("ip", "link", "set", "tap-of-vm", "up")
    assert "tap-of-vm in (host) is down" in way["reason"]


def test_instance_behind_a_tap_device_sends_by_its_router(world: World) -> None:
    found = traced(ARRIVES, "--from", "10.1.0.12", "--to", INTERNET)
    assert found["start"]["namespace"] == world.cloud.router("main").qrouter
    assert found["start"]["device"].startswith("qr-")
    assert "lladdr" in places(found["way"], "from")[0], "the neighbour entry of the instance is shown"
    assert found["way"]["packet"]["src"] == GATEWAY


def test_host_outside_comes_in_by_who_answers_for_the_floating_ip(world: World) -> None:
    found = traced(ARRIVES, "--from", "8.8.8.8", "--to", FIP)
    assert found["start"]["namespace"] == fip_namespace()
    assert found["way"]["packet"] | {"src": "8.8.8.8", "dst": "10.1.0.11"} == found["way"]["packet"]


def test_named_namespace_may_be_the_beginning_of_its_name(world: World) -> None:
    found = traced(ARRIVES, "--from", "10.2.0.99%qrouter-", "--to", INTERNET)
    assert found["start"]["namespace"] == world.cloud.router("main").qrouter


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("--from", "10.1.0.x", "--to", FIP), USAGE, "--from: '10.1.0.x' is no IP address"),
        (("--from", "10.1.0.11", "--to", "2001:db8::1"), USAGE, "different families"),
        (("--from", "10.1.0.11%nowhere", "--to", FIP), ERROR, "--from: no namespace nowhere"),
        (("--from", "10.1.0.11%red/eth7", "--to", FIP), ERROR, "there is no device eth7 in red"),
        (("--from", "10.77.0.1", "--to", "10.78.0.1"), ERROR, "name where it comes in"),
        (("--from", "10.77.0.1%host", "--to", FIP), ERROR, "name the device: 10.77.0.1%host/DEVICE"),
        (("--from", "10.1.0.11", "--to", FIP, "--proto", "tcp"), USAGE, "--proto tcp needs --dport"),
        (("--from", "10.1.0.11", "--to", FIP, "--proto", "icmp", "--dport", "1"), USAGE, "icmp has no ports"),
        (("--from", "10.1.0.11", "--to", FIP, "--dport", "70000"), USAGE, "is no port"),
        (("--from", "10.1.0.11", "--to", FIP, "--size", "3"), USAGE, "is no size of a packet"),
    ],
)
def test_bad_arguments_are_named(world: World, words: tuple[str, ...], code: int, text: str) -> None:
    done = ctl(*words)
    assert done.returncode == code
    assert text in done.stderr
    assert done.stdout == ""


def test_match_that_is_not_understood_ends_the_way_as_unknown(world: World) -> None:
    qrouter = world.cloud.router("main").qrouter
    rule = ("FORWARD", "-p", "icmp", "-m", "limit", "--limit", "1/s", "-j", "DROP")
    lab.in_netns(qrouter, "iptables-legacy", "-A", *rule)
    try:
        way = traced(UNKNOWN, "--from", INTERNET, "--to", FIP)["way"]
        assert "-m limit (not understood) -j DROP" in way["reason"]
        assert traced(ARRIVES, "--from", INTERNET, "--to", FIP, "--dport", "80")["way"]["outcome"] == "delivered"
    finally:
        lab.in_netns(qrouter, "iptables-legacy", "-D", *rule)


@pytest.mark.parametrize(
    ("rule", "code"),
    [
        ("ip daddr 10.1.0.11 drop", DROPPED),
        ("ip daddr 10.1.0.0/24 reject", DROPPED),
        ("ip daddr 10.9.0.0/24 drop", ARRIVES),
        ("counter log", ARRIVES),
        ("meta l4proto icmp drop", DROPPED),
        ("ip protocol != icmp drop", ARRIVES),
        ("ip6 daddr 2001:db8:1::11 drop", ARRIVES),
        ("ct state new drop", UNKNOWN),
        ("ip daddr vmap { 10.1.0.11 : drop }", UNKNOWN),
        ("meta mark set 0x1", UNKNOWN),
        ("ct mark set 0x1", UNKNOWN),
        ("ip daddr { 10.1.0.11, 10.1.0.12 } drop", UNKNOWN),
    ],
)
def test_native_rules_of_nf_tables_are_followed_as_far_as_they_are_understood(
    world: World, rule: str, code: int
) -> None:
    qrouter = world.cloud.router("main").qrouter
    chain = "add chain inet other through { type filter hook forward priority 10; }"
    lab.in_netns(qrouter, "nft", f"add table inet other; {chain}; add rule inet other through {rule}")
    try:
        traced(code, "--from", INTERNET, "--to", FIP)
    finally:
        lab.in_netns(qrouter, "nft", "delete table inet other")


@pytest.mark.parametrize(("protocol", "port"), [("udp", 53), ("icmp", 0)])
def test_existing_connection_is_looked_up_where_the_source_port_is_named(
    world: World, protocol: str, port: int
) -> None:
    begun = make_packet("10.2.0.11", INTERNET, PROTOCOLS[protocol], port, 45001)
    send("blue", begun, bytes(16))
    ports = ("--dport", str(port)) if port else ()
    packet = ("--from", "10.2.0.11", "--to", INTERNET, "--proto", protocol, *ports)
    snat = world.cloud.router("main").snat_namespace
    rule = ("PREROUTING", "-s", "10.2.0.11", "-p", protocol, "-j", "DNAT", "--to-destination", "203.0.113.222")
    lab.in_netns(snat, "iptables-legacy", "-t", "nat", "-I", *rule)
    try:
        entry = wait_for(lambda: read_connection(snat, begun.head), "the entry")
        assert traced(DROPPED, *packet)["way"]["reason"].find("203.0.113.222 ") > 0, (
            "a new one is translated by the rule"
        )
        found = traced(ARRIVES, *packet, "--sport", "45001", "--reply")
    finally:
        lab.in_netns(snat, "iptables-legacy", "-t", "nat", "-D", *rule)
    way = found["way"]
    assert (entry.translated, entry.end.src) == ({"SNAT"}, GATEWAY)
    assert way["packet"] == entry.end._asdict(), "with the port that the kernel has chosen"
    assert places(way, "conntrack PREROUTING")[-1].startswith("existing connection 10.2.0.11")
    assert places(way, "conntrack POSTROUTING") == [f"translated as the existing connection {begun.head.text}"]
    assert found["reply"]["packet"] == begun.head.inverted()._asdict()


def test_answer_of_an_existing_connection_can_be_traced_by_itself(world: World) -> None:
    begun = make_packet("10.2.0.11", INTERNET, PROTOCOLS["udp"], 54, 45002)
    send("blue", begun, bytes(16))
    entry = wait_for(lambda: read_connection(world.cloud.router("main").snat_namespace, begun.head), "the entry")
    ports = ("--sport", "54", "--dport", str(entry.end.sport))
    way = traced(ARRIVES, "--from", INTERNET, "--to", GATEWAY, "--proto", "udp", *ports)["way"]
    assert (way["at"]["namespace"], way["packet"]) == ("blue", begun.head.inverted()._asdict())


def test_existing_tcp_connection_is_established(world: World) -> None:
    with lab.entered("internet"):
        server = socket.create_server((INTERNET, 443))
    with lab.entered("blue"):
        client = socket.socket()
    with server, client:
        client.bind(("10.2.0.11", 45004))
        client.connect((INTERNET, 443))
        words = ("--from", "10.2.0.11", "--to", INTERNET, "--dport", "443", "--sport", "45004", "--reply")
        found = traced(ARRIVES, *words)
        with server.accept()[0] as accepted:
            host, port = accepted.getpeername()
    assert (found["way"]["packet"]["src"], found["way"]["packet"]["sport"]) == (host, port)
    assert places(found["way"], "conntrack PREROUTING")[-1].endswith("(ESTABLISHED)")
    assert (found["reply"]["packet"]["dst"], found["reply"]["packet"]["dport"]) == ("10.2.0.11", 45004)


def test_existing_ipv6_echo_is_looked_up_in_the_conntrack_table(world: World) -> None:
    packet = make_packet("2001:db8:1::11", "2001:db8:f::1", PROTOCOLS["icmp"], sport=45003)
    send("red", packet, bytes(16))
    qrouter = world.cloud.router("main").qrouter
    found = wait_for(lambda: read_connection(qrouter, packet.head), "the entry")
    assert (found.begin, found.end) == (packet.head, packet.head)
    assert read_connection(qrouter, packet.head._replace(sport=1)) is None


def test_tentative_address_is_named(world: World) -> None:
    blue = ("sysctl", "-qw", "net.ipv6.conf.eth0.accept_dad=2", "net.ipv6.conf.eth0.dad_transmits=100")
    lab.in_netns("red", *blue)
    lab.in_netns("red", "ip", "addr", "add", "2001:db8:1::77/64", "dev", "eth0")
    try:
        way = traced(
            DROPPED, "--from", f"2001:db8:1::12%{world.cloud.router('main').qrouter}", "--to", "2001:db8:1::77"
        )
        assert "eth0 in red has it, but tentative" in way["way"]["reason"]
    finally:
        lab.in_netns("red", "ip", "addr", "del", "2001:db8:1::77/64", "dev", "eth0")


def test_live_confirms_each_device_and_rule_with_the_very_packet(world: World) -> None:
    found = traced(ARRIVES, "--from", INTERNET, "--to", FIP, "--dport", "80", "--live")
    hops = found["way"]["hops"]
    assert found["divergence"] == ""
    assert {hop["live"] for hop in hops} == {"confirmed", None}
    assert all(hop["live"] for hop in hops if hop["where"] in ("neighbour", "link", DNAT))


def test_live_confirms_the_way_of_the_answer_to_an_echo_request(world: World) -> None:
    found = traced(ARRIVES, "--from", INTERNET, "--to", FIP, "--reply", "--live")
    assert found["divergence"] == ""
    hops = found["reply"]["hops"]
    assert {hop["live"] for hop in hops} == {"confirmed", None}
    assert all(hop["live"] for hop in hops if hop["where"] in ("neighbour", "link"))


def test_live_does_not_watch_for_answers_of_tcp(world: World) -> None:
    found = traced(ARRIVES, "--from", INTERNET, "--to", FIP, "--dport", "80", "--reply", "--live")
    assert {hop["live"] for hop in found["reply"]["hops"]} == {None}


def test_live_names_where_the_answer_is_lost(world: World) -> None:
    fip = fip_namespace()
    device = next(one["ifname"] for one in lab.ip_json("link", netns=fip) if one["ifname"].startswith("fg-"))
    lab.in_netns(fip, "nft", "add table netdev t")
    hook = f"add chain netdev t c {{ type filter hook egress device {device} priority 0; policy drop; }}"
    lab.in_netns(fip, "nft", hook)
    try:
        found = traced(DROPPED, "--from", INTERNET, "--to", FIP, "--reply", "--live")
        assert found["divergence"].startswith(f"the answer: not seen at {fip}: neighbour")
        assert "not seen" not in {hop["live"] for hop in found["way"]["hops"]}
    finally:
        lab.in_netns(fip, "nft", "delete table netdev t")


def test_live_agrees_with_an_answer_that_is_computed_to_be_dropped(world: World) -> None:
    qrouter = world.cloud.router("main").qrouter
    rule = ("FORWARD", "-s", "10.1.0.11", "-j", "DROP")
    lab.in_netns(qrouter, "iptables-legacy", "-I", *rule)
    try:
        found = traced(DROPPED, "--from", INTERNET, "--to", FIP, "--reply", "--live")
        assert (found["way"]["outcome"], found["reply"]["outcome"]) == ("delivered", "dropped")
        assert found["divergence"] == ""
    finally:
        lab.in_netns(qrouter, "iptables-legacy", "-D", *rule)


def test_live_injects_where_an_instance_is_attached(world: World) -> None:
    found = traced(ARRIVES, "--from", "10.1.0.12", "--to", INTERNET, "--proto", "udp", "--dport", "53", "--live")
    assert found["divergence"] == ""
    assert found["way"]["packet"]["src"] == GATEWAY


def test_live_with_ipv6(world: World) -> None:
    found = traced(ARRIVES, "--from", "2001:db8:1::11", "--to", "2001:db8:f::1", "--live")
    assert found["divergence"] == ""


def test_live_says_beforehand_what_it_does_and_leaves_nothing(world: World) -> None:
    before = kernel_state()
    done = ctl("--from", INTERNET, "--to", FIP, "--live")
    assert "sends one packet 203.0.113.1 → 203.0.113.51 from internet" in done.stderr
    assert kernel_state() == before


def test_live_confirms_rules_of_nf_tables_and_leaves_no_table(world: World) -> None:
    qrouter = world.cloud.router("main").qrouter
    rule = ("FORWARD", "-p", "udp", "-m", "udp", "--dport", "5353", "-j", "DROP")
    lab.in_netns(qrouter, "iptables-nft", "-A", *rule)
    try:
        found = traced(DROPPED, "--from", INTERNET, "--to", FIP, "--proto", "udp", "--dport", "5353", "--live")
        assert found["divergence"] == ""
        (dropping,) = [hop for hop in found["way"]["hops"] if hop["where"] == "nft ip filter FORWARD"]
        assert (dropping["text"], dropping["live"]) == ("-A FORWARD -p udp -m udp --dport 5353 -j DROP", "confirmed")
        assert "dvr_trace" not in lab.in_netns(qrouter, "nft", "list", "tables")
    finally:
        lab.in_netns(qrouter, "nft", "delete table ip filter")


def test_live_names_the_first_divergence(world: World) -> None:
    """A hook of the device drops what leaves the fip namespace: nothing that is computed knows of it."""
    fip = fip_namespace()
    device = next(one["ifname"] for one in lab.ip_json("link", netns=fip) if one["ifname"].startswith("fpr-"))
    lab.in_netns(fip, "nft", "add table netdev t")
    hook = f"add chain netdev t c {{ type filter hook egress device {device} priority 0; policy drop; }}"
    lab.in_netns(fip, "nft", hook)
    try:
        found = traced(DROPPED, "--from", INTERNET, "--to", FIP, "--live")
        assert found["way"]["outcome"] == "delivered", "computed"
        assert "not seen at" in found["divergence"]
        assert device in found["divergence"] or "rfp-" in found["divergence"]
        lines = ctl("--from", INTERNET, "--to", FIP, "--live").stdout.splitlines()
        (first,) = [number for number, line in enumerate(lines) if line.startswith("  not seen")][:1]
        assert [line for line in lines[first + 1 :] if line.startswith("  not seen")] == [lines[first + 1]]
        assert " more hops up to red: " in lines[first + 1]
    finally:
        lab.in_netns(fip, "nft", "delete table netdev t")


def test_live_leaves_nothing_when_it_is_interrupted(world: World) -> None:
    fip = fip_namespace()
    device = next(one["ifname"] for one in lab.ip_json("link", netns=fip) if one["ifname"].startswith("fpr-"))
    before = kernel_state()
    lab.in_netns(fip, "nft", "add table netdev t")
    hook = f"add chain netdev t c {{ type filter hook egress device {device} priority 0; policy drop; }}"
    lab.in_netns(fip, "nft", hook)  # so that it waits for the packet
    words = [sys.executable, "-m", "dvr_agent.cli.ctl", "trace", "--from", INTERNET, "--to", FIP, "--live"]
    try:
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
            wait_for(lambda: _packet_sockets(running.pid), "its packet sockets")
            running.send_signal(signal.SIGINT)
            running.communicate(timeout=60)
            assert running.returncode == 130
    finally:
        lab.in_netns(fip, "nft", "delete table netdev t")
    assert kernel_state() == before


def _packet_sockets(pid: int) -> bool:
    """True while the process has as many sockets as it watches devices."""
    links = [os.readlink(one) for one in Path(f"/proc/{pid}/fd").iterdir() if one.is_symlink()]
    return sum(link.startswith("socket:") for link in links) >= 4
