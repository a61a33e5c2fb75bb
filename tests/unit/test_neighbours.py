"""Which ports of the router's subnets give permanent neighbours, and that one which cannot be one does no harm."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from dvr_agent.desired.build import desired_router
from dvr_agent.desired.host_allocations import HostAllocations
from dvr_agent.desired.host_settings import AgentMode, HostSettings
from dvr_agent.desired.host_view import make_view
from dvr_agent.desired.qrouter import qrouter_state
from dvr_agent.model.router import Router
from tests.support.recorded_documents import document, parse

COMPUTE = "a_dvr_compute-compute2"
SUBNET = "e43cad5b-61b8-4db7-a484-fb535447dc5c"
VIP = "10.1.0.99"
SETTINGS = HostSettings("compute2", AgentMode.DVR_NO_EXTERNAL)
UP: dict[str, Any] = {"status": "ACTIVE", "admin_state_up": True}


def neighbours(router: Router) -> dict[str, str]:
    state, _ = qrouter_state(make_view(router, SETTINGS), HostAllocations())
    return {neighbour.dst: neighbour.mac for neighbour in state.neighbours}


def port(number: int, address: str = "", **more: Any) -> dict[str, Any]:
    return {
        "id": f"d0a7c0de-0000-4000-8000-0000000000{number:02x}",
        "mac_address": f"fa:16:3e:00:01:{number:02x}",
        "device_owner": "compute:nova",
        "fixed_ips": [{"ip_address": address or f"10.1.0.{number}", "subnet_id": SUBNET}],
        "allowed_address_pairs": [],
        **more,
    }


def with_ports(*ports: dict[str, Any]) -> Router:
    source = document(COMPUTE)
    source["ports_by_subnet"][SUBNET] = list(ports)
    return parse(source)


@pytest.mark.parametrize(
    ("more", "path", "value", "reason"),
    [
        ({"mac_address": "01:00:5e:00:00:01"}, "mac_address", '"01:00:5e:00:00:01"', "unicast"),
        ({"mac_address": "00:00:00:00:00:00"}, "mac_address", '"00:00:00:00:00:00"', "not all zero"),
        ({"mac_address": "ff:ff:ff:ff:ff:ff"}, "mac_address", '"ff:ff:ff:ff:ff:ff"', "unicast"),
        *(
            ({"fixed_ips": [{"ip_address": ip, "subnet_id": SUBNET}]}, "fixed_ips[0].ip_address", f'"{ip}"', reason)
            for ip, reason in (
                ("169.254.64.7", "169.254.64.0/18"),
                ("169.254.127.255", "169.254.64.0/18"),
                ("224.0.0.1", "multicast"),
                ("127.0.0.1", "loopback"),
                ("0.0.0.0", "unspecified"),
                ("255.255.255.255", "broadcast"),
                ("ff02::1", "multicast"),
                ("::1", "loopback"),
                ("::", "unspecified"),
                ("::ffff:10.1.0.8", "IPv4-mapped"),
            )
        ),
    ],
)
def test_port_that_can_be_no_neighbour_is_skipped_with_a_warning(
    more: dict[str, Any], path: str, value: str, reason: str
) -> None:
    router = with_ports(port(1), port(2, **more), port(3))
    found = neighbours(router)
    assert found["10.1.0.3"] == "fa:16:3e:00:01:03"
    assert "10.1.0.2" not in found
    (skipped,) = router.skipped
    assert skipped.path == f'$.ports_by_subnet["{SUBNET}"][1].{path}'
    assert skipped.value == f"{value} (port {port(2)['id']})"
    assert reason in skipped.expected
    assert router.omitted == ()
    state = desired_router(make_view(router, SETTINGS), HostAllocations())
    assert [warning for warning in state.warnings if warning == f"no neighbour: {skipped.text}"]
    assert state.omitted == ()


def test_other_addresses_and_pairs_of_such_a_port_are_neighbours() -> None:
    fixed = [{"ip_address": ip, "subnet_id": SUBNET} for ip in ("169.254.64.7", "10.1.0.7")]
    pairs = [{"ip_address": VIP, "mac_address": "fa:16:3e:00:02:01"}, {"ip_address": "10.1.0.98"}]
    found = neighbours(
        with_ports(port(7, fixed_ips=fixed), port(8, mac_address="01:00:00:00:00:01", allowed_address_pairs=pairs))
    )
    assert found["10.1.0.7"] == "fa:16:3e:00:01:07"
    assert found[VIP] == "fa:16:3e:00:02:01"
    assert "10.1.0.98" not in found  # would be at the group address


PAIR = [{"ip_address": VIP}]
NOT_UP = [
    {"status": "DOWN", "admin_state_up": True},
    {"status": "BUILD", "admin_state_up": True},
    {"status": "ERROR", "admin_state_up": True},
    {"status": "N/A", "admin_state_up": True},
    {"status": None, "admin_state_up": True},
    {"status": "ACTIVE", "admin_state_up": False},
    {"status": "DOWN", "admin_state_up": False},
]


@pytest.mark.parametrize("other", NOT_UP, ids=str)
@pytest.mark.parametrize("number", [5, 9], ids=["lower id", "higher id"])
def test_of_two_ports_with_one_pair_the_one_that_is_up_gives_the_neighbour(other: dict[str, Any], number: int) -> None:
    up = port(number, allowed_address_pairs=PAIR, **UP)
    down = port(7, allowed_address_pairs=PAIR, **other)
    for ports in itertools.permutations((up, down)):
        assert neighbours(with_ports(*ports))[VIP] == up["mac_address"]


def test_the_same_for_ipv6_pairs() -> None:
    source = document("h_dual_stack-compute2")
    subnet, cidr = next(
        (subnet["id"], subnet["cidr"])
        for interface in source["router"]["_interfaces"]
        for subnet in interface["subnets"]
        if ":" in subnet["cidr"]
    )
    vip = cidr.replace("::/64", "::99")
    pair = [{"ip_address": f"{vip}/128"}]
    up, down = port(5, allowed_address_pairs=pair, **UP), port(7, allowed_address_pairs=pair, status="DOWN")
    for one in (up, down):
        one["fixed_ips"] = [{"ip_address": vip.replace("::99", f"::{one['id'][-1]}"), "subnet_id": subnet}]
    for ports in ([up, down], [down, up]):
        source["ports_by_subnet"][subnet] = ports
        assert neighbours(parse(source))[vip] == up["mac_address"]


@pytest.mark.parametrize("state", [UP, NOT_UP[0], {}], ids=["both up", "both down", "not told"])
def test_equal_ports_give_the_same_neighbour_in_any_order(state: dict[str, Any]) -> None:
    ports = [port(number, allowed_address_pairs=PAIR, **state) for number in (5, 7, 9)]
    found = {neighbours(with_ports(*order))[VIP] for order in itertools.permutations(ports)}
    assert len(found) == 1


def test_fixed_ip_of_a_port_wins_over_any_pair() -> None:
    owner = port(5, VIP, status="DOWN")
    for ports in itertools.permutations((owner, port(7, allowed_address_pairs=PAIR, **UP))):
        assert neighbours(with_ports(*ports))[VIP] == owner["mac_address"]


def test_many_such_ports_are_few_warnings() -> None:
    bad = [port(number, mac_address="01:00:5e:00:00:01") for number in range(1, 31)]
    state = desired_router(make_view(with_ports(*bad, port(99)), SETTINGS), HostAllocations())
    found = [warning for warning in state.warnings if warning.startswith("no neighbour: ")]
    assert len(found) == 11
    assert found[-1] == "no neighbour: 20 more ports of the router's subnets"


def test_an_address_of_another_version_than_its_subnet_is_no_neighbour() -> None:
    """The device has no address of that version, so that such an entry would not even be read back."""
    assert neighbours(with_ports(port(1, "2001:db8::9"), port(2))).keys() & {"2001:db8::9", "10.1.0.2"} == {"10.1.0.2"}
