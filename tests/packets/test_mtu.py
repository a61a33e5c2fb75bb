"""Packets as large as the network allows pass unfragmented; the router says so about larger ones."""

from __future__ import annotations

import re
import subprocess

import pytest

from tests.support import lab
from tests.support.packet_documents import Network
from tests.support.packet_world import INTERNET, PUBLIC, World

RED = Network("red", ("10.1.0.0/24",), mtu=1450)
SMALL = Network("small", ("10.2.0.0/24",), mtu=1400)
IP_AND_ICMP = 28
"""Bytes of headers around the data of an echo request."""


@pytest.fixture(scope="module")
def world(shared_world: World) -> World:
    world, cloud = shared_world, shared_world.cloud
    red, red2 = cloud.vm("red", RED, "10.1.0.11"), cloud.vm("red-plain", RED, "10.1.0.12")
    small = cloud.vm("small", SMALL, "10.2.0.11")
    router = cloud.router("main", RED, SMALL).gateway(PUBLIC, "203.0.113.10").floating_ip("203.0.113.51", red)
    world.apply(router)
    world.boot(red, red2, small)
    return world


def largest_answer(netns: str, target: str, data: int) -> str:
    """Output of one unfragmentable ping with that many bytes of data."""
    words = ["ip", "netns", "exec", netns, "ping", "-n", "-c", "1", "-W", "5", "-M", "do", "-s", str(data), target]
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=60).stdout


@pytest.mark.parametrize(
    ("source", "target", "mtu"),
    [
        pytest.param("red", INTERNET, 1450, id="out by floating IP"),
        pytest.param("red-plain", INTERNET, 1450, id="out by SNAT"),
        pytest.param("internet", "203.0.113.51", 1450, id="in by floating IP"),
        pytest.param("red", "10.2.0.11", 1400, id="to a network with less"),
    ],
)
def test_full_size_passes_without_fragments(world: World, source: str, target: str, mtu: int) -> None:
    assert lab.ping(source, target, count=1, size=mtu - IP_AND_ICMP, df=True)


def test_larger_than_the_next_network_gets_fragmentation_needed(world: World) -> None:
    out = largest_answer("red-plain", "10.2.0.11", 1450 - IP_AND_ICMP)
    assert re.search(r"From 10\.1\.0\.1 .*(mtu = 1400)", out), out


def test_vm_knows_its_own_limit(world: World) -> None:
    assert " 0 received" in largest_answer("red", INTERNET, 1451 - IP_AND_ICMP)
