"""Objects that the contract suite adds to the fake and to the real kernel: at least one of each kind with a handler."""

from __future__ import annotations

from dvr_agent.state.address import Address
from dvr_agent.state.kind import KernelObject
from dvr_agent.state.limit import make_limit
from dvr_agent.state.neighbour import Neighbour
from dvr_agent.state.proxy_neighbour import ProxyNeighbour
from dvr_agent.state.route import MAIN_TABLE, Hop, make_route
from dvr_agent.state.rule import Rule
from tests.support.contract_world import NEAR

V4_ROUTE = make_route("10.7.0.0/16", MAIN_TABLE, Hop("10.0.0.9", NEAR))
V6_ROUTE = make_route("2001:db8:7::/48", MAIN_TABLE, Hop("2001:db8::9", NEAR))
V4_NEIGHBOUR = Neighbour("10.0.0.4", NEAR, "fa:16:3e:11:11:11")
V6_NEIGHBOUR = Neighbour("2001:db8::4", NEAR, "fa:16:3e:11:11:12")

EXAMPLES: list[KernelObject] = [
    Address(NEAR, "10.0.0.77/24"),
    Address(NEAR, "10.9.0.1/31"),
    Address(NEAR, "2001:db8::77/64"),
    V4_ROUTE,
    V6_ROUTE,
    make_route("0.0.0.0/0", 16, Hop("10.0.0.9", NEAR)),
    make_route("::/0", 70001, Hop("2001:db8::9", NEAR)),
    make_route("::/0", MAIN_TABLE, Hop("fe80::9", NEAR)),
    make_route("198.51.100.0/24", 16, Hop(None, NEAR)),
    make_route("192.0.2.0/24", MAIN_TABLE, Hop("10.0.0.8", NEAR), Hop("10.0.0.9", NEAR)),
    make_route("2001:db8:8::/48", MAIN_TABLE, Hop("2001:db8::8", NEAR), Hop("2001:db8::9", NEAR)),
    make_route("0.0.0.0/0", 3232235521, Hop("172.16.0.1", NEAR, onlink=True)),
    Rule(4, 33000, 16, "10.0.0.4/32"),
    Rule(4, 167772161, 167772161, "10.0.0.1/24"),
    Rule(4, 80000, 16, "10.0.0.0/24"),
    Rule(6, 70001, 70001, "2001:db8::1/64"),
    V4_NEIGHBOUR,
    V6_NEIGHBOUR,
    make_limit(NEAR, "leaving", "203.0.113.5", 1000, 800),
    make_limit(NEAR, "entering", "203.0.113.5", 2_000_000_000, 4_000_000),
    ProxyNeighbour("2001:db8::5", NEAR),
]
