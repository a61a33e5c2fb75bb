"""Rules that count bytes of floating IPs: one pair for each that this host builds, and nothing else changes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from dvr_agent.desired.accounting import counted
from dvr_agent.desired.build import DesiredRouter
from dvr_agent.desired.host_view import HostView
from dvr_agent.reconcile.handover import _effects
from dvr_agent.state.filter import FilterRule
from dvr_agent.state.namespace import NamespaceState
from tests.support.desired_state import desired
from tests.support.recorded_documents import load

SCENARIOS = [
    ("b2_dvr_snat_node_with_vms", "compute1"),
    ("a_dvr_compute", "compute2"),
    ("c_fip_unbound_port", "compute1"),
    ("i_address_scope", "compute1"),
    ("p_multi_fip", "compute1"),
]


def states(router: DesiredRouter) -> Iterator[NamespaceState]:
    yield from (one for one in (router.qrouter, router.snat, router.base, router.slice) if one is not None)


def counting(state: NamespaceState) -> list[tuple[str, FilterRule]]:
    return [
        (chain.name, rule)
        for table in state.tables
        for chain in table.chains
        for rule in chain.rules
        if counted(rule) is not None
    ]


def both(scenario: str, host: str) -> tuple[HostView, DesiredRouter, DesiredRouter]:
    router = load(scenario, host)
    view, without = desired(router, host)
    return view, without, desired(router, host, count_floating_ips=True)[1]


@pytest.mark.parametrize(("scenario", "host"), SCENARIOS)
def test_every_floating_ip_of_this_host_is_counted_once_in_each_direction(scenario: str, host: str) -> None:
    view, _without, router = both(scenario, host)
    found = [counted(rule) for state in states(router) for _, rule in counting(state)]
    wanted = [str(fip.address) for fip in (*view.local_fips, *view.central_fips)]
    assert sorted(one for one in found if one is not None) == sorted(
        (address, direction) for address in wanted for direction in ("received", "sent")
    )
    for state in states(router):
        for chain, rule in counting(state):
            device = rule.iif if chain.endswith("PREROUTING") else rule.oif
            assert str(device)[:4] in ("rfp-", "qg-" + str(device)[3:4])
            assert chain in ("dvr-PREROUTING", "dvr-FORWARD")


@pytest.mark.parametrize(("scenario", "host"), SCENARIOS)
def test_nothing_else_changes(scenario: str, host: str) -> None:
    _view, without, router = both(scenario, host)
    for before, after in zip(states(without), states(router), strict=True):
        assert not counting(before)
        ours = {rule for _, rule in counting(after)}
        for old, new in zip(before.tables, after.tables, strict=True):
            rules = {chain.name: [rule for rule in chain.rules if rule not in ours] for chain in new.chains}
            assert {name: found for name, found in rules.items() if found} == {
                chain.name: list(chain.rules) for chain in old.chains
            }
        assert replace(before, tables=()) == replace(after, tables=())


@pytest.mark.parametrize(("scenario", "host"), SCENARIOS)
def test_a_handover_does_not_wait_for_them(scenario: str, host: str) -> None:
    _view, without, router = both(scenario, host)
    for before, after in zip(states(without), states(router), strict=True):
        for old, new in zip(before.tables, after.tables, strict=True):
            assert set(_effects(old, ours=True)) == set(_effects(new, ours=True))
