"""Where packets are captured, and the formats in which tcpdump writes them and the file has them."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvr_agent.capture.pcap import Packet, PcapError, PcapStream
from dvr_agent.capture.pcapng import PcapngWriter
from dvr_agent.capture.places import MAX_ADDRESSES, Place, Wanted, command, find_places, make_filter
from dvr_agent.state.wiring import Wire
from dvr_agent.topology.build import make_graph
from tests.support.pcapng import read
from tests.support.topology_parts import FG, FIP, FPR, QG, QR, QROUTER, RFP, SG, SNAT, WIRING, parts

GRAPH = make_graph("x", [parts()], WIRING)
FLOATING, FIXED = "203.0.113.183", "10.1.0.112"
PORT = "12345678-9abc-4000-8000-000000000001"


def named(places: list[Place]) -> list[str]:
    return [place.name for place in places]


# --- places --------------------------------------------------------------------------------------------------------


def test_places_are_listed_from_the_outside_inwards() -> None:
    wiring = replace(WIRING, wires={**WIRING.wires, "12345678-9a": Wire("tap12345678-9a", "brq8328c29f-72")})
    wanted = Wanted((FLOATING, FIXED), fixed=(FIXED,), instance_ports=(PORT,))
    found = find_places(GRAPH, wiring, wanted)
    assert named(found) == [
        "host:eth1",
        "host:tap8ff41de9-3e",
        f"{FIP}:{FG}",
        f"{FIP}:{FPR}",
        f"{QROUTER}:{RFP}",
        f"{QROUTER}:{QR}",
        "host:tap7fb6853b-e0",
        "host:tap12345678-9a",
    ]
    assert {place.filter for place in found} == {f"host {FLOATING} or host {FIXED}"}
    assert QG not in " ".join(named(found))  # it is missing
    assert found[0].title == "uplink of br-ex"


def test_of_a_router_all_packets_are_wanted_but_at_what_others_use_too() -> None:
    found = {place.device: place.filter for place in find_places(GRAPH, WIRING, Wanted(shared=(FLOATING, "fd00::/64")))}
    shared = f"host {FLOATING} or net fd00::/64"
    assert {device for device, text in found.items() if text == shared} == {"eth1", "tap8ff41de9-3e", FG}
    assert {device for device, text in found.items() if not text} == {FPR, RFP, QR, SG, "tap7fb6853b-e0"}


def test_internal_devices_of_other_subnets_are_no_places_of_a_floating_ip() -> None:
    found = find_places(GRAPH, WIRING, Wanted((FLOATING, "10.9.0.1"), fixed=("10.9.0.1",)))
    assert QR not in {place.device for place in found}
    assert f"{SNAT}:{SG}" not in named(found)


def test_ports_that_are_no_devices_of_the_host_are_no_places() -> None:
    wires = {stem: wire._replace(capturable=False) for stem, wire in WIRING.wires.items()}
    found = find_places(GRAPH, replace(WIRING, wires=wires), Wanted((FLOATING,)))
    assert [place.device for place in found if not place.namespace] == ["eth1"]


def test_a_filter_that_the_kernel_would_refuse_is_none() -> None:
    addresses = [f"10.0.{number // 256}.{number % 256}" for number in range(MAX_ADDRESSES + 1)]
    assert make_filter(addresses) == ""
    assert make_filter(addresses[:2] * 2) == "host 10.0.0.0 or host 10.0.0.1"


def test_commands_enter_the_namespace() -> None:
    assert command(Place("", "eth1", "", ""), "-n") == ["tcpdump", "-n", "-i", "eth1"]
    inside = command(Place(FIP, FG, "", "host x"))
    assert inside == ["ip", "netns", "exec", FIP, "tcpdump", "-i", FG, "host x"]


# --- formats -------------------------------------------------------------------------------------------------------


def pcap(order: str, magic: int, packets: list[tuple[int, int, bytes]]) -> bytes:
    head = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 262144, 1)
    return head + b"".join(struct.pack(order + "IIII", *times, len(x), len(x) + 7) + x for *times, x in packets)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("magic", "unit"), [(0xA1B23C4D, 1), (0xA1B2C3D4, 1000)])
@given(
    packets=st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 999_999), st.binary(max_size=40)), max_size=5),
    size=st.integers(1, 50),
)
def test_a_stream_is_cut_into_its_packets_wherever_it_is_interrupted(
    order: str, magic: int, unit: int, packets: list[tuple[int, int, bytes]], size: int
) -> None:
    data, stream = pcap(order, magic, packets), PcapStream()
    found = [packet for start in range(0, len(data), size) for packet in stream.feed(data[start : start + size])]
    assert found == [Packet(s * 10**9 + f * unit, len(data) + 7, data) for s, f, data in packets]
    assert (stream.link_type, stream.snapshot) == (1, 262144)


def test_what_is_no_pcap_is_refused() -> None:
    with pytest.raises(PcapError, match="it begins with 74637064"):
        list(PcapStream().feed(b"tcpdump: no such device, really"))


def test_a_file_has_a_name_for_each_interface(tmp_path: Path) -> None:
    path = tmp_path / "x.pcapng"
    frame = bytes(12) + b"\x08\x00" + bytes.fromhex("4500001c000000004001000001020304") + bytes([5, 6, 7, 8]) + b"\x08"
    with path.open("wb") as file:
        writer = PcapngWriter(file, "dvrctl", "router x")
        numbers = [writer.add_interface(name, 1, 262144, "é", "host a") for name in ("ns:one", "host:two")]
        for time, number in enumerate(numbers):
            writer.add_packet(number, Packet(2**40 + time, len(frame), frame))
        writer.add_statistics(0, 2**40, 5, 4)
        writer.flush()
    found = read(path)
    assert (found.interfaces, found.filters) == (["ns:one", "host:two"], ["host a", "host a"])
    assert [(one.interface, one.source, one.destination, one.kind, one.time) for one in found.packets] == [
        ("ns:one", "1.2.3.4", "5.6.7.8", 8, 2**40),
        ("host:two", "1.2.3.4", "5.6.7.8", 8, 2**40 + 1),
    ]
    assert found.received == {"ns:one": 5}


def test_interface_with_a_name_that_is_no_text_is_written(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with path.open("wb") as file:
        PcapngWriter(file, "test").add_interface("host:x\udcff", 1, 2000, "uplink of br\udcff")
    assert b"host:x\\udcff" in path.read_bytes()
