"""Which router or floating IP a text on the command line means."""

from __future__ import annotations

import pytest

from dvr_agent.cli.subjects import KnownFloatingIp, NotFoundError, find_router, find_subject

A = "aaaa1111-0000-4000-8000-000000000001"
B = "aaaa2222-0000-4000-8000-000000000002"
C = "bbbb0000-0000-4000-8000-000000000003"
ROUTERS = {A: "edge", B: "edge-2", C: ""}
FIPS = [
    KnownFloatingIp(A, "203.0.113.5", "10.0.0.5", "f1f1f1f1-0000-4000-8000-00000000000a"),
    KnownFloatingIp(B, "203.0.113.6", "10.0.0.6", "f1f1f2f2-0000-4000-8000-00000000000b"),
    KnownFloatingIp(C, "203.0.113.7", "10.0.0.7"),
]


@pytest.mark.parametrize(
    ("text", "router_id"),
    [
        (A, A),
        (A.upper(), A),
        (f"qrouter-{B}", B),
        (f"snat-{C}", C),
        ("edge", A),  # the whole name comes before what begins with it
        ("edge-", B),
        ("aaaa1", A),
        ("b", C),
    ],
)
def test_a_router_is_found_by_id_namespace_name_and_unique_beginning(text: str, router_id: str) -> None:
    assert find_router(text, ROUTERS) == router_id
    assert find_subject(text, ROUTERS, FIPS) == (router_id, None)


def test_several_routers_of_one_name_are_listed_with_their_ids() -> None:
    routers = {A: "edge", B: "edge", C: "edge-2"}
    with pytest.raises(
        NotFoundError, match=f'several routers have the name "edge"; use an id: {A} .edge., {B} .edge.$'
    ):
        find_router("edge", routers)


def test_an_ambiguous_beginning_names_the_candidates_and_many_are_cut() -> None:
    with pytest.raises(NotFoundError, match=f'several routers begin with "aaaa"; use an id: {A} .edge., {B}'):
        find_router("aaaa", ROUTERS)
    many = {f"aaaa{number:04d}-0000-4000-8000-000000000001": "" for number in range(30)}
    with pytest.raises(NotFoundError, match=r"and 20 more$"):
        find_router("a", many)


@pytest.mark.parametrize("text", ["", "cccc", "Edge", f"fip-{A}", "\x1b[2J"])
def test_what_is_no_router_is_said_with_what_to_do(text: str) -> None:
    with pytest.raises(NotFoundError, match="dvrctl show routers") as caught:
        find_router(text, ROUTERS)
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("203.0.113.5", "203.0.113.5"),
        ("203.0.113.6/32", "203.0.113.6"),
        ("f1f1f2", "203.0.113.6"),
        ("F1F1F1F1-0000-4000-8000-00000000000A", "203.0.113.5"),
    ],
)
def test_a_floating_ip_is_found_by_address_and_id(text: str, address: str) -> None:
    found = find_subject(text, ROUTERS, FIPS)
    assert found.floating_ip is not None
    assert (found.floating_ip.address, found.router_id) == (address, found.floating_ip.router_id)


def test_floating_ips_that_are_not_one_are_said() -> None:
    with pytest.raises(NotFoundError, match=r"no router on this host has the floating IP 203\.0\.113\.9"):
        find_subject("203.0.113.9", ROUTERS, FIPS)
    with pytest.raises(NotFoundError, match="several floating IPs begin with"):
        find_subject("f1f1", ROUTERS, FIPS)
    twice = [*FIPS, KnownFloatingIp(C, "203.0.113.5", "10.0.0.9")]
    with pytest.raises(NotFoundError, match=f"several routers have the floating IP 203.0.113.5; use an id: {A}, {C}"):
        find_subject("203.0.113.5", ROUTERS, twice)
    with pytest.raises(NotFoundError, match="no router or floating IP begins with"):
        find_subject("nothing", ROUTERS, FIPS)
