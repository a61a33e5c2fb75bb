"""Ports of a subnet that contradict each other: the router is built, one port has the address, a warning says so."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from dvr_agent.desired.build import desired_router
from dvr_agent.desired.host_allocations import HostAllocations
from dvr_agent.desired.host_settings import AgentMode, HostSettings
from dvr_agent.desired.host_view import make_view
from dvr_agent.model.parse import parse_document
from tests.support.scripted_neutron import HOST, recorded

Json = dict[str, Any]
FIRST, SECOND = "00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002"


@pytest.fixture
def document() -> Json:
    return recorded("h_dual_stack-compute1")


def subnets(document: Json) -> tuple[str, str]:
    """The IPv4 and the IPv6 subnet."""
    cidrs = {one["cidr"]: one["id"] for port in document["router"]["_interfaces"] for one in port["subnets"]}
    (v4,), (v6,) = ([id_ for cidr, id_ in cidrs.items() if (":" in cidr) is wanted] for wanted in (False, True))
    return v4, v6


def port(port_id: str, mac: str, *fixed: tuple[str, str]) -> Json:
    fixed_ips = [{"subnet_id": subnet_id, "ip_address": address} for subnet_id, address in fixed]
    return {"id": port_id, "mac_address": mac, "device_owner": "compute:nova", "fixed_ips": fixed_ips}


def built(document: Json) -> tuple[dict[str, str], tuple[str, ...]]:
    """Neighbours and warnings."""
    router = parse_document(json.dumps(document).encode(), "test.json")
    state = desired_router(make_view(router, HostSettings(HOST, AgentMode.DVR_NO_EXTERNAL)), HostAllocations())
    return {found.dst: found.mac for found in state.qrouter.neighbours}, state.warnings


def test_recorded_documents_have_no_rivals(document: Json) -> None:
    assert built(document)[1] == ()


@pytest.mark.parametrize("version", [4, 6])
def test_one_of_two_ports_with_the_same_fixed_ip_gives_the_neighbour(document: Json, version: int) -> None:
    subnet_id = subnets(document)[version == 6]
    address, other_form = ("10.1.0.200", "10.1.0.200") if version == 4 else ("2001:db8:1::2:0", "2001:DB8:1:0::2:0")
    listed = document["ports_by_subnet"][subnet_id]
    added = [
        port(FIRST, "fa:16:3e:00:00:01", (subnet_id, address)),
        port(SECOND, "fa:16:3e:00:00:02", (subnet_id, other_form)),
    ]
    for order in itertools.permutations(added):
        document["ports_by_subnet"][subnet_id] = [*order, *listed]
        neighbours, (warning,) = built(document)
        assert neighbours[address] == "fa:16:3e:00:00:02"
        for word in (address, subnet_id, FIRST, SECOND, "fixed_ips"):
            assert word in warning
    added[1]["status"] = "DOWN"
    neighbours, (warning,) = built(document)
    assert neighbours[address] == "fa:16:3e:00:00:01"


def test_fixed_ips_of_a_port_count_in_the_list_of_their_subnet_only(document: Json) -> None:
    v4, v6 = subnets(document)
    new, old = "fa:16:3e:00:00:02", "fa:16:3e:00:00:01"
    document["ports_by_subnet"][v4].append(port(SECOND, new, (v4, "10.1.0.200")))
    stale = port(FIRST, old, (v4, "10.1.0.200"), (v6, "2001:db8:1::2:0"), (v4, "no address"))
    document["ports_by_subnet"][v6].append(stale)
    neighbours, warnings = built(document)
    assert (neighbours["10.1.0.200"], neighbours["2001:db8:1::2:0"]) == (new, old)
    assert warnings == ()


def test_port_that_is_listed_twice_is_one_port_unless_it_differs(document: Json) -> None:
    v4, _ = subnets(document)
    one = port(FIRST, "fa:16:3e:00:00:01", (v4, "10.1.0.200"))
    document["ports_by_subnet"][v4] += [one, one]
    neighbours, warnings = built(document)
    assert neighbours["10.1.0.200"] == "fa:16:3e:00:00:01"
    assert warnings == ()
    document["ports_by_subnet"][v4].append(one | {"mac_address": "fa:16:3e:00:00:02"})
    neighbours, warnings = built(document)
    assert neighbours["10.1.0.200"] == "fa:16:3e:00:00:02"
    assert len(warnings) == 1
