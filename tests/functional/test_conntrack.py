"""Connections are deleted by exact address; the ``conntrack`` tool says what was there before and after."""

from __future__ import annotations

import errno
import itertools
import re
import socket
from pathlib import Path

import pytest

from dvr_agent.errors import KernelError
from dvr_agent.kernel.conntrack import manager as module
from dvr_agent.kernel.conntrack.manager import NetlinkConntrack
from tests.support import lab

FIP, OUTSIDE = "203.0.113.5", "203.0.113.9"


@pytest.fixture(params=["searched dump", "dump read entry by entry", "filtered dumps"])
def conntrack(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, host: lab.Host) -> NetlinkConntrack:
    """All ways of finding entries must delete the same ones."""
    monkeypatch.setattr(module, "SEARCH_UP_TO", 0 if request.param == "dump read entry by entry" else 64)
    monkeypatch.setattr(module, "FILTER_FROM", 1 if request.param == "filtered dumps" else 1 << 30)
    return NetlinkConntrack()


@pytest.fixture
def router(host: lab.Host) -> str:
    """A namespace that forwards between an inner and an outer network, with NAT for one floating IP."""
    for bridge in ("br-in", "br-out"):
        host.bridge(bridge)
    host.vm("inside", "br-in", ("10.1.0.2/24", "fd00:1::2/64"), ("10.1.0.1", "fd00:1::1"))
    host.vm("outside", "br-out", (f"{OUTSIDE}/24", "fd00:2::9/64"), ("fd00:2::1",))
    lab.run("ip", "netns", "add", "router")
    for device, bridge, addresses in (
        ("in", "br-in", ("10.1.0.1/24", "fd00:1::1/64")),
        ("out", "br-out", ("203.0.113.1/24", f"{FIP}/32", "fd00:2::1/64")),
    ):
        lab.run("ip", "link", "add", f"r-{device}", "type", "veth", "peer", "name", device, "netns", "router")
        lab.run("ip", "link", "set", f"r-{device}", "master", bridge, "up")
        lab.run("ip", "-n", "router", "link", "set", device, "up")
        for address in addresses:
            nodad = ["nodad"] if ":" in address else []
            lab.run("ip", "-n", "router", "addr", "add", address, "dev", device, *nodad)
    lab.in_netns("router", "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
    nat = ("iptables-legacy", "-t", "nat", "-A")
    lab.in_netns("router", *nat, "PREROUTING", "-d", FIP, "-j", "DNAT", "--to", "10.1.0.2")
    lab.in_netns("router", *nat, "POSTROUTING", "-s", "10.1.0.2", "-j", "SNAT", "--to", FIP)
    lab.in_netns("router", "ip6tables-legacy", "-A", "FORWARD", "-m", "conntrack", "--ctstate", "NEW", "-j", "ACCEPT")
    return "router"


def entries(namespace: str, family: str = "ipv4", zone: bool = False) -> list[str]:
    """One line per entry, as the tool prints it."""
    out = lab.in_netns(namespace, "conntrack", "-L", "-f", family)
    return sorted(line for line in out.splitlines() if line)


def addresses(line: str) -> set[str]:
    return set(re.findall(r"(?:src|dst)=(\S+)", line))


def insert(namespace: str, tmp_path: Path, lines: list[str]) -> None:
    """Make entries by ``conntrack -I``, all in one go."""
    commands = tmp_path / "conntrack.save"
    commands.write_text("".join(f"-I {line}\n" for line in lines))
    lab.in_netns(namespace, "conntrack", "-R", commands)


def udp(src: str, dst: str, sport: int, dport: int = 53, extra: str = "") -> str:
    reply = f"--reply-port-src {dport} --reply-port-dst {sport}" if "-r " in extra else ""
    return f"-p udp -t 300 -s {src} -d {dst} --sport {sport} --dport {dport} {extra} {reply}"


def open_flow(client: str, target: str, port: int, source: str = "") -> None:
    """One UDP packet: enough for an entry."""
    family = socket.AF_INET6 if ":" in target else socket.AF_INET
    with lab.entered(client):
        sock = socket.socket(family, socket.SOCK_DGRAM)
    with sock:
        sock.bind((source, 0))
        sock.sendto(b"x", (target, port))


@pytest.fixture
def flows(router: str) -> str:
    """Inbound over the floating IP, outbound with SNAT, and one that has nothing to do with it."""
    assert lab.ping("outside", FIP)
    assert lab.tcp_peer("inside", "10.1.0.2", "outside", FIP) == OUTSIDE
    assert lab.tcp_peer("outside", OUTSIDE, "inside", OUTSIDE) == FIP
    open_flow("outside", "203.0.113.1", 7777)
    return router


def test_inbound_and_outbound_connections_of_a_floating_ip_go_and_others_stay(
    conntrack: NetlinkConntrack, flows: str
) -> None:
    before = entries(flows)
    ours = [line for line in before if FIP in addresses(line)]
    assert {line.split()[0] for line in ours} == {"icmp", "tcp"}
    assert any(f"dst={FIP} " in line.split("src=")[1] for line in ours), "one with the FIP as original destination"
    assert any(f"dst={FIP} " not in line.split("src=")[1] for line in ours), "one with it in the reply only"
    others = [line for line in before if FIP not in addresses(line)]
    assert others
    assert conntrack.delete(flows, FIP) == len(ours)
    assert [addresses(line) for line in entries(flows)] == [addresses(line) for line in others]
    assert conntrack.delete(flows, FIP) == 0


def test_the_fixed_address_behind_nat_is_found_in_either_direction(conntrack: NetlinkConntrack, flows: str) -> None:
    ours = [line for line in entries(flows) if "10.1.0.2" in addresses(line)]
    assert conntrack.delete(flows, "10.1.0.2") == len(ours) >= 3
    assert not any("10.1.0.2" in addresses(line) for line in entries(flows))


def test_ipv6_connections_are_deleted_and_ipv4_ones_stay(conntrack: NetlinkConntrack, flows: str) -> None:
    assert lab.ping("inside", "fd00:2::9")
    assert lab.tcp_peer("outside", "fd00:2::9", "inside", "fd00:2::9") == "fd00:1::2"
    open_flow("inside", "fd00:2::77", 5000)
    v4 = len(entries(flows))
    ours = [line for line in entries(flows, "ipv6") if "fd00:2::9" in addresses(line)]
    assert conntrack.delete(flows, "fd00:2::9") == len(ours) >= 2
    rest = entries(flows, "ipv6")
    assert any("fd00:2::77" in addresses(line) for line in rest)
    assert not any("fd00:2::9" in addresses(line) for line in rest)
    assert len(entries(flows)) == v4


@pytest.mark.parametrize("place", ["original source", "original destination", "reply source", "reply destination"])
def test_each_of_the_four_places_counts(conntrack: NetlinkConntrack, router: str, tmp_path: Path, place: str) -> None:
    hit = "198.51.100.7"
    lines = {
        "original source": udp(hit, "10.9.0.2", 1001, extra="-r 10.9.0.2 -q 10.9.0.99"),
        "original destination": udp("10.9.0.1", hit, 1001, extra="-r 10.9.0.99 -q 10.9.0.1"),
        "reply source": udp("10.9.0.1", "10.9.0.2", 1001, extra=f"-r {hit} -q 10.9.0.1"),
        "reply destination": udp("10.9.0.1", "10.9.0.2", 1001, extra=f"-r 10.9.0.2 -q {hit}"),
    }
    insert(router, tmp_path, [lines[place], udp("10.9.0.1", "198.51.100.8", 1002)])
    assert sum(hit in addresses(line) for line in entries(router)) == 1
    assert conntrack.delete(router, hit) == 1
    assert [sorted(addresses(line)) for line in entries(router)] == [["10.9.0.1", "198.51.100.8"]]


def test_two_thousand_other_connections_are_untouched(conntrack: NetlinkConntrack, router: str, tmp_path: Path) -> None:
    others = [udp(f"10.8.{n // 250}.{n % 250 + 1}", "198.51.100.70", 2000 + n) for n in range(2000)]
    ours = [udp("198.51.100.7", "10.8.0.1", 2000 + n) for n in range(150)]
    insert(router, tmp_path, [*others, *ours])
    keep = {line.split("src=", 1)[1] for line in entries(router) if "198.51.100.7" not in addresses(line)}
    assert len(keep) == 2000
    assert conntrack.delete(router, "198.51.100.7") == 150
    assert {line.split("src=", 1)[1] for line in entries(router)} == keep


def test_an_entry_in_a_zone_is_deleted_in_its_zone(conntrack: NetlinkConntrack, router: str, tmp_path: Path) -> None:
    same = udp("10.9.0.1", "198.51.100.7", 1001)
    insert(router, tmp_path, [same, f"{same} -w 5", udp("10.9.0.1", "198.51.100.8", 1001, extra="-w 5")])
    assert conntrack.delete(router, "198.51.100.7") == 2
    (left,) = entries(router)
    assert "198.51.100.8" in addresses(left)
    assert "zone=5" in left


def test_other_namespaces_keep_theirs(conntrack: NetlinkConntrack, router: str, tmp_path: Path) -> None:
    for namespace in (router, "inside"):
        insert(namespace, tmp_path, [udp("10.9.0.1", "198.51.100.7", 1001)])
    assert conntrack.delete(router, "198.51.100.7") == 1
    assert any("198.51.100.7" in addresses(line) for line in entries("inside"))


def test_an_empty_table_has_nothing_to_delete(conntrack: NetlinkConntrack, router: str) -> None:
    lab.in_netns(router, "conntrack", "-F")
    assert conntrack.delete(router, FIP) == 0


def test_what_is_no_address_is_refused_with_namespace_and_value(conntrack: NetlinkConntrack, router: str) -> None:
    with pytest.raises(KernelError, match=r"namespace router: connections of 10\.0\.0\.0/24") as caught:
        conntrack.delete(router, "10.0.0.0/24")
    assert caught.value.code == errno.EINVAL


def test_no_socket_is_left_open(conntrack: NetlinkConntrack, flows: str) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        conntrack.delete(flows, FIP)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


# Connections that an address began without translation

INSIDE = ("10.1.0.0/24", "10.7.0.0/16")


def test_untranslated_connections_of_an_address_to_the_outside_go_and_no_others(
    conntrack: NetlinkConntrack, router: str, tmp_path: Path
) -> None:
    ours, other, outside = "10.1.0.2", "10.1.0.3", "198.51.100.70"
    goes = [
        udp(ours, outside, 1001),
        udp(ours, "10.8.0.1", 1002),  # like one of the inside, and is none
        f"-p icmp -t 300 -s {ours} -d {outside} --icmp-type 8 --icmp-code 0 --icmp-id 7",
        f"-p tcp -t 300 -s {ours} -d {outside} --sport 1003 --dport 80 --state ESTABLISHED",
    ]
    stays = [
        udp(ours, "10.1.0.9", 2001),
        udp(ours, "10.7.255.255", 2002),
        udp(other, outside, 2003),
        udp(outside, ours, 2004),
        udp("10.1.0.20", outside, 2005),  # begins with the same digits
    ]
    insert(router, tmp_path, [*goes, *stays])
    # As real packets make them: translated on their way out, or on their way in.
    assert lab.tcp_peer("outside", OUTSIDE, "inside", OUTSIDE) == FIP
    assert lab.ping("outside", FIP)
    kept = [line.split("src=", 1)[1] for line in entries(router) if not any(_is(line, one) for one in goes)]
    assert len(kept) == len(entries(router)) - len(goes) >= len(stays) + 2
    assert conntrack.drop_untranslated(router, [ours], INSIDE) == len(goes)
    assert [_tuples(line) for line in map("src={}".format, kept)] == [_tuples(line) for line in entries(router)]
    assert conntrack.drop_untranslated(router, [ours], INSIDE) == 0


def _tuples(line: str) -> list[str]:
    return re.findall(r"(?:src|dst|sport|dport|id)=\S+", line)


def _is(line: str, inserted: str) -> bool:
    """True if the line is of the entry that was inserted by these words."""
    words = inserted.split()
    value = {words[i]: words[i + 1] for i in range(0, len(words), 2)}
    port = value.get("--sport") or value.get("--icmp-id")
    return f"src={value['-s']} dst={value['-d']} " in line and f"={port}" in line


def test_several_addresses_are_found_at_once(conntrack: NetlinkConntrack, router: str, tmp_path: Path) -> None:
    lines = [udp(f"10.1.0.{n % 50 + 2}", "198.51.100.70", 2000 + n) for n in range(500)]
    insert(router, tmp_path, lines)
    addresses = [f"10.1.0.{n + 2}" for n in range(25)]
    assert conntrack.drop_untranslated(router, addresses, ()) == 250
    assert {line.split("src=")[1].split()[0] for line in entries(router)} == {f"10.1.0.{n + 27}" for n in range(25)}
    assert conntrack.drop_untranslated(router, [], ()) == 0
    assert conntrack.drop_untranslated(router, ["10.1.0.30"], ("0.0.0.0/0",)) == 0
    assert len(entries(router)) == 250


def test_untranslated_connections_in_a_zone_of_their_own(
    conntrack: NetlinkConntrack, router: str, tmp_path: Path
) -> None:
    insert(
        router, tmp_path, [udp("10.1.0.2", "198.51.100.70", 1001, extra="-w 7"), udp("10.1.0.3", "198.51.100.70", 1)]
    )
    assert conntrack.drop_untranslated(router, ["10.1.0.2"], ()) == 1
    assert len(entries(router)) == 1


def test_error_of_a_namespace_that_is_gone_names_the_addresses(conntrack: NetlinkConntrack, host: lab.Host) -> None:
    with pytest.raises(KernelError) as caught:
        conntrack.drop_untranslated("qrouter-gone", ["10.1.0.3", "10.1.0.2"], ())
    assert "qrouter-gone" in str(caught.value)


def test_connections_to_ports_of_an_address_go_and_no_others(
    conntrack: NetlinkConntrack, router: str, tmp_path: Path
) -> None:
    numbers = itertools.count(40000)

    def entry(protocol: str, port: int, target: str = FIP) -> str:
        number = next(numbers)
        state = "--state ESTABLISHED " if protocol == "tcp" else ""
        extra = f"-r 10.1.0.2 -q {OUTSIDE} --reply-port-src {port + 1} --reply-port-dst {number}"
        return f"-p {protocol} -t 300 {state}-s {OUTSIDE} -d {target} --sport {number} --dport {port} {extra}"

    going = [entry("udp", 9000), entry("udp", 9009), entry("tcp", 2222)]
    staying = [entry("udp", 8999), entry("udp", 9010), entry("udp", 2222), entry("tcp", 9000), entry("tcp", 80)]
    staying += [entry("udp", 9000, "203.0.113.6"), udp(FIP, OUTSIDE, 9000, 9000)]
    insert(router, tmp_path, [*going, *staying])
    before = len(entries(router))
    assert conntrack.delete_to_ports(router, FIP, [("udp", 9000, 9009), ("tcp", 2222, 2222)]) == len(going)
    assert len(entries(router)) == before - len(going)
    assert conntrack.delete_to_ports(router, FIP, [("udp", 9000, 9009), ("tcp", 2222, 2222)]) == 0
