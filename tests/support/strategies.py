"""Hypothesis strategies for namespace states: small pools of names and addresses, so that things meet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from hypothesis import strategies as st

from dvr_agent.state.address import Address
from dvr_agent.state.filter import Dnat, FilterRule, Snat, Table
from dvr_agent.state.filter_runs import make_table
from dvr_agent.state.kind import KernelObject
from dvr_agent.state.limit import DIRECTIONS, Limit
from dvr_agent.state.link import Link
from dvr_agent.state.namespace import KINDS, NamespaceState
from dvr_agent.state.neighbour import Neighbour
from dvr_agent.state.ownership import Ownership
from dvr_agent.state.policer import Policer
from dvr_agent.state.proxy_neighbour import ProxyNeighbour
from dvr_agent.state.route import Hop, Route, make_route
from dvr_agent.state.rule import Rule
from dvr_agent.state.sysctl import Sysctl

T = TypeVar("T")
DEVICES = st.sampled_from(["qr-a", "qr-b", "rfp-a"])
ADDRESSES = st.sampled_from([f"10.0.{i}.1" for i in range(4)] + ["2001:db8::1"])
MACS = st.sampled_from(["02:00:00:00:00:01", "02:00:00:00:00:02"])
HOPS = st.builds(Hop, st.one_of(st.none(), ADDRESSES), DEVICES)


def _unique(values: st.SearchStrategy[T], key: Callable[[Any], object]) -> st.SearchStrategy[frozenset[T]]:
    return st.lists(values, max_size=5, unique_by=key).map(frozenset)


LINKS = _unique(st.builds(Link, DEVICES, MACS, st.sampled_from([1450, 1500])), lambda link: link.name)
ADDRESS_SETS = st.frozensets(st.builds(Address, DEVICES, ADDRESSES.map(lambda ip: f"{ip}/24")), max_size=5)
ROUTES = _unique(
    st.builds(
        lambda dst, table, hops: make_route(dst, table, *hops),
        st.sampled_from(["0.0.0.0/0", "10.9.0.0/16", "::/0"]),
        st.sampled_from([16, 254]),
        st.lists(HOPS, min_size=1, max_size=3),
    ),
    lambda route: route.key,
)
RULES = st.frozensets(
    st.builds(
        Rule,
        st.just(4),
        st.integers(1, 4),
        st.sampled_from([16, 99]),
        ADDRESSES.map(lambda ip: f"{ip}/32"),
        st.none(),
    ),
    max_size=5,
)
NEIGHBOURS = _unique(st.builds(Neighbour, ADDRESSES, DEVICES, MACS), lambda neighbour: neighbour.key)
PROXY_NEIGHBOURS = st.frozensets(
    st.builds(ProxyNeighbour, st.sampled_from(["2001:db8::5", "2001:db8::6"]), DEVICES), max_size=5
)
SYSCTLS = _unique(
    st.builds(
        Sysctl, st.sampled_from(["ipv4/ip_forward", "ipv4/conf/qr-a/send_redirects"]), st.sampled_from(["0", "1"])
    ),
    lambda sysctl: sysctl.key,
)
LIMITS = _unique(
    st.builds(Limit, DEVICES, st.sampled_from(DIRECTIONS), ADDRESSES, st.integers(1, 3), st.integers(3, 4)),
    lambda limit: limit[:3],
)
POLICERS = st.frozensets(
    st.builds(Policer, st.integers(1, 3), st.just(1), DEVICES, st.sampled_from(DIRECTIONS), ADDRESSES), max_size=2
)
FILTER_RULES = st.one_of(
    st.builds(FilterRule, st.builds(Dnat, ADDRESSES), dst=ADDRESSES.map(lambda ip: f"{ip}/32")),
    st.builds(FilterRule, st.builds(Snat, ADDRESSES, st.booleans()), src=ADDRESSES.map(lambda ip: f"{ip}/32")),
)
TABLES = st.dictionaries(
    st.sampled_from(["PREROUTING", "POSTROUTING"]), st.lists(FILTER_RULES, max_size=4).map(tuple)
).map(lambda rules: (make_table(4, "nat", rules), Table(6, "nat")))

OBJECTS: dict[type[KernelObject], st.SearchStrategy[frozenset[Any]]] = {
    Link: LINKS,
    Address: ADDRESS_SETS,
    Route: ROUTES,
    Rule: RULES,
    Neighbour: NEIGHBOURS,
    ProxyNeighbour: PROXY_NEIGHBOURS,
    Sysctl: SYSCTLS,
    Limit: LIMITS,
    Policer: POLICERS,
}
"""Sets of objects of each kind."""

STATES = st.builds(
    NamespaceState,
    st.just("qrouter-x"),
    st.just(Ownership(prefixes=("qr-", "rfp-"), proxied=("::/0",))),
    tables=TABLES,
    **{kind.field: OBJECTS[kind.type] for kind in KINDS if kind.type in OBJECTS},  # test_kinds names what is missing
)
