"""Routers with many floating IPs and ports: what is taken over from an earlier document makes no difference."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvr_agent.desired.claims import claims_here
from dvr_agent.desired.host_settings import AgentMode
from dvr_agent.errors import DocumentError
from dvr_agent.model import floating_ips, ports, recall
from dvr_agent.model.parse import parse_document
from dvr_agent.model.router import Router
from dvr_agent.reconcile.fip_slices import FipRoutes
from dvr_agent.state import itemwise
from dvr_agent.state.link import Link
from dvr_agent.state.namespace import NamespaceState
from dvr_agent.state.ownership import Ownership
from dvr_agent.state.route import MAIN_TABLE, Hop, Route
from tests.support.desired_state import desired
from tests.support.packet_documents import mac, uid

NETWORK, SUBNET, EXTERNAL, OUTSIDE = (uid("network"), uid("subnet"), uid("external"), uid("outside"))
HOST, SCOPE = "compute1", uid("scope")


@pytest.fixture(autouse=True)
def all_lists_are_long(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two objects are many."""
    for module in (recall, floating_ips, ports, itemwise):
        monkeypatch.setattr(module, "LONG", 2)
    yield
    _forget()


def _forget() -> None:
    floating_ips._lists._lists.clear()
    ports._lists._lists.clear()


def _port(name: str, network: str, subnet: str, cidr: str, address: str, **values: Any) -> dict[str, Any]:
    return {
        "id": uid(name),
        "network_id": network,
        "mac_address": mac(name),
        "mtu": 1500,
        "fixed_ips": [{"ip_address": address, "prefixlen": int(cidr.rpartition("/")[2]), "subnet_id": subnet}],
        "subnets": [{"id": subnet, "cidr": cidr, "gateway_ip": None}],
        **values,
    }


def _document() -> dict[str, Any]:
    outside = (EXTERNAL, OUTSIDE, "203.0.113.0/24")
    members = [
        {
            "id": uid("vm", str(number)),
            "mac_address": f"fa:16:3e:00:00:{number:02x}",
            "device_owner": "compute:nova",
            "fixed_ips": [{"ip_address": f"10.0.0.{10 + number}", "subnet_id": SUBNET}],
            "allowed_address_pairs": [],
        }
        for number in range(6)
    ]
    fips = [
        {
            "id": uid("fip", str(number)),
            "floating_ip_address": f"203.0.113.{10 + number}",
            "fixed_ip_address": f"10.0.0.{10 + number}",
            "floating_network_id": EXTERNAL,
            "host": HOST,
        }
        for number in range(6)
    ]
    router = {
        "id": uid("router"),
        "distributed": True,
        "gw_port": _port("gateway", *outside, "203.0.113.5"),
        "gw_port_host": HOST,
        "_interfaces": [_port("interface", NETWORK, SUBNET, "10.0.0.0/24", "10.0.0.1")],
        "_snat_router_interfaces": [_port("csnat", NETWORK, SUBNET, "10.0.0.0/24", "10.0.0.2")],
        "_floatingip_agent_interfaces": [_port("agent", *outside, "203.0.113.2")],
        "_floatingips": fips,
    }
    return {"router": router, "ports_by_subnet": {SUBNET: members}}


VALUES: dict[str, list[Any]] = {
    "id": [uid("fip", "1"), uid("fip", "7"), uid("fip", "2").upper(), uid("vm", "1"), None, "?"],
    "floating_ip_address": ["203.0.113.11", "203.0.113.30", "203.0.113.2", "203.0.113.0", "fd00::1", 7],
    "fixed_ip_address": ["10.0.0.11", "10.0.0.40", "10.0.0.1", "192.0.2.1", None, True],
    "floating_network_id": [NETWORK, None],
    "host": ["compute2", None, 1, "FLOATING_IP_HOST_NEEDS_BINDING"],
    "dest_host": [HOST, None],
    "dvr_snat_bound": [True, False, None, 1, 0],
    "fixed_ip_address_scope": [SCOPE, None, "?"],
    "qos_policy_id": [SCOPE, None],
    "mac_address": ["fa:16:3e:00:00:03", "FA:16:3E:00:00:09", "01:00:00:00:00:00", None],
    "fixed_ips": [
        [{"ip_address": "10.0.0.12", "subnet_id": SUBNET}],
        [{"ip_address": "10.0.0.50", "subnet_id": SUBNET}, {"ip_address": "fd00::5", "subnet_id": SUBNET}],
        [{"ip_address": "224.0.0.1", "subnet_id": SUBNET}],
        [],
        None,
    ],
    "allowed_address_pairs": [[{"ip_address": "10.0.0.60"}], [{"ip_address": "10.0.0.13", "mac_address": None}], None],
    "status": ["DOWN", "ACTIVE"],
    "admin_state_up": [False, True, 0],
    "unknown": [1],
}


def _change(document: dict[str, Any], draw: random.Random) -> None:
    """Change one thing."""
    router = document["router"]
    listed: list[dict[str, Any]] = draw.choice([router["_floatingips"], document["ports_by_subnet"][SUBNET]])
    match draw.choice(["drop", "again", "shuffle", "set", "set", "set", "unset", "around", "before"]):
        case "drop" if listed:
            listed.pop(draw.randrange(len(listed)))
        case "again" if listed:
            listed.insert(draw.randrange(len(listed) + 1), deepcopy(draw.choice(listed)))
        case "before":
            whole = _document()
            listed.clear()
            listed += whole["router"]["_floatingips"] if listed is router["_floatingips"] else (
                whole["ports_by_subnet"][SUBNET]
            )  # fmt: skip
        case "shuffle":
            draw.shuffle(listed)
        case "set" if listed:
            key = draw.choice(list(VALUES))
            draw.choice(listed)[key] = draw.choice(VALUES[key])
        case "unset" if listed:
            draw.choice(listed).pop(draw.choice(list(VALUES)), None)
        case "around":
            value = draw.choice(["203.0.113.12", "203.0.113.5", ""])
            router["gw_port"] = _port("gateway", EXTERNAL, OUTSIDE, "203.0.113.0/24", value) if value else None
            router["distributed"] = draw.choice([True, True, False])
            cidr, address = draw.choice([("10.0.0.0/24", "10.0.0.1"), ("10.0.0.0/28", "10.0.0.14")])
            router["_interfaces"] = [_port("interface", NETWORK, SUBNET, cidr, address)]
            router["_interfaces"][0]["address_scopes"] = {"4": draw.choice([SCOPE, None])}


def _outcome(document: dict[str, Any]) -> Router | str:
    try:
        return parse_document(json.dumps(document).encode(), "router")
    except DocumentError as exc:
        return str(exc)


@given(st.integers(0, 2**32))
@settings(max_examples=150, deadline=None)
def test_a_document_that_comes_after_others_is_read_as_if_it_was_the_first(seed: int) -> None:
    draw, document = random.Random(seed), _document()
    _forget()
    for _ in range(8):
        _change(document, draw)
        found = _outcome(document)
        kept = dict(floating_ips._lists._lists), dict(ports._lists._lists)
        _forget()
        assert found == _outcome(document)
        _forget()
        floating_ips._lists._lists.update(kept[0])
        ports._lists._lists.update(kept[1])


def test_what_stays_is_the_same_object() -> None:
    document = _document()
    first = _outcome(document)
    document["router"]["_floatingips"].pop(2)
    document["ports_by_subnet"][SUBNET][1]["mac_address"] = "fa:16:3e:00:00:99"
    second = _outcome(document)
    assert isinstance(first, Router)
    assert isinstance(second, Router)
    assert [one for one in second.floating_ips if not any(one is other for other in first.floating_ips)] == []
    before, after = first.ports_by_subnet[0][1], second.ports_by_subnet[0][1]
    assert sum(any(one is other for other in before) for one in after) == len(after) - 1


def test_number_of_remembered_items_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recall, "ITEMS", 20)
    for number in range(9):
        document = _document()
        document["router"]["id"] = uid("router", str(number))
        _outcome(document)
        assert sum(len(one.values) for one in floating_ips._lists._lists.values()) <= 20


@given(st.integers(0, 2**32), st.sampled_from([AgentMode.DVR, AgentMode.DVR_SNAT]))
@settings(max_examples=60, deadline=None)
def test_a_desired_state_that_comes_after_others_is_as_if_it_was_the_first(seed: int, mode: AgentMode) -> None:
    draw, document = random.Random(seed), _document()
    for _ in range(8):
        _change(document, draw)
        router = _outcome(document)
        if isinstance(router, str):
            continue
        found = _computed(router, mode)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(itemwise, "LONG", 1 << 30)  # nothing is taken over
            assert found == _computed(router, mode)


def _computed(router: Router, mode: AgentMode) -> Any:
    if not router.distributed and mode is AgentMode.DVR:
        return None
    view, state = desired(router, HOST, mode, count_floating_ips=True)
    parts = [part for part in (state.qrouter, state.base, state.slice, state.snat) if part is not None]
    not_compared = [(part.announcements, part.outbound) for part in parts]
    return state, not_compared, claims_here(view)


def _double(items: Sequence[int], by: int) -> list[tuple[int, int]]:
    return [(item, by) for item in items]


@given(st.lists(st.lists(st.integers(0, 5), max_size=12)), st.integers(1, 2))
@settings(deadline=None)
def test_each_item_is_mapped_and_sets_have_all_items(tuples: list[list[int]], by: int) -> None:
    doubled = itemwise.itemwise(_double)
    for items in map(tuple, tuples):
        assert doubled.each("owner", items, by) == tuple((item, by) for item in items)
        assert itemwise.frozen("owner", "test", items) == frozenset(items)


def test_only_what_differs_is_computed() -> None:
    computed: list[str] = []
    made = itemwise.itemwise(lambda items: [[item] for item in items if not computed.append(item)])  # type: ignore[func-returns-value]
    first = made.each("owner", ("a", "b", "c", "d"))
    second = made.each("owner", ("a", "b", "x", "c", "d"))
    assert computed == ["a", "b", "c", "d", "x"]
    assert [first[0], first[3]] == [second[0], second[4]]
    assert first[3] is second[4]


def test_number_of_owners_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(itemwise, "OWNERS", 3)
    doubled = itemwise.itemwise(_double)
    for number in range(9):
        assert doubled.each(str(number), (1, 2), 3) == ((1, 3), (2, 3))
        assert len(doubled._last) <= 3


# --- routes of slices ---


def _slice(device: str, destinations: set[int]) -> NamespaceState:
    routes = {Route(f"203.0.113.{number}/32", MAIN_TABLE, (Hop("169.254.64.0", device),)) for number in destinations}
    routes.add(Route("0.0.0.0/0", 2852000000, (Hop("203.0.113.1", "fg-1"),)))
    ownership, links = Ownership(devices=frozenset({device})), frozenset({Link(device, "", 1500)})
    return NamespaceState("fip-x", ownership, links=links, routes=frozenset(routes))


SLICES = st.lists(st.tuples(st.sampled_from(["fpr-a", "fpr-b"]), st.sets(st.integers(1, 6)), st.booleans()))


@given(SLICES)
@settings(deadline=None)
def test_routes_that_stay_in_a_slice_need_not_be_noted_again(noted: list[tuple[str, set[int], bool]]) -> None:
    quick, thorough = FipRoutes({}), FipRoutes({})
    for routes in (quick, thorough):
        for device in ("fpr-a", "fpr-b"):
            routes.concede("fip-x", device, device, ())
    for device, destinations, goes in noted:
        answers = []
        for routes in (quick, thorough):
            if routes is thorough:
                routes._noted.clear()
            subnets = [f"203.0.113.{number}/32" for number in (1, 2)]
            conceded = routes.concede("fip-x", device, device, subnets)
            found = (
                routes.forget("fip-x", device) if goes else routes.note_in_sync(_slice(device, destinations), subnets)
            )
            answers.append((conceded, found, routes.take_losers(), routes._routes, routes._conceded))
        assert answers[0] == answers[1]
