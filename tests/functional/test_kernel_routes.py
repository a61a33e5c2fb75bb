"""Routes that the kernel made with an address, and that another program has removed, are added again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dvr_agent.desired import names
from dvr_agent.model.router import Router
from dvr_agent.state.diff import Action
from dvr_agent.state.kernel_route import KernelRoute
from tests.support import lab
from tests.support.small_routers import EXTERNAL, make_router, port
from tests.support.trusting_agent import FIP, Agent, counting_agent, device, with_fips
from tests.support.waiting import wait_for

PREFIXES = {names.QROUTER: ("qr-", "rfp-"), names.FIP: ("fpr-", "fg-"), names.SNAT: ("sg-", "qg-")}
DEVICES = [(namespace, prefix) for namespace, prefixes in PREFIXES.items() for prefix in prefixes]
FAMILIES = ("-4", "-6")


@pytest.fixture
def agent(host: lab.Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Agent]:
    with counting_agent(host, tmp_path, monkeypatch) as agent:
        yield agent


@pytest.fixture
def router(agent: Agent) -> Router:
    """A trusted router with IPv4 and IPv6 on each device, whose link-local addresses the kernel has made for good."""
    made = with_fips(make_router("one", 2), 7)
    gateway, fg = (
        port(name, EXTERNAL, f"203.0.113.{end}/24", f"2001:db8:ff::{end}/64")
        for name, end in (("one-qg", 2), ("fg", 200))
    )
    made = replace(made, gateway=gateway, agent_gateways=(fg,))
    agent.once(made)
    wait_for(lambda: all(has_link_local(namespace_of(made, one), dev) for one, dev in DEVICES))
    agent.once(made, trusting=False)
    return made


def namespace_of(router: Router, prefix: str) -> str:
    return FIP if prefix == names.FIP else prefix + router.id


def has_link_local(namespace: str, prefix: str) -> bool:
    found = lab.ip_json("-6", "address", "show", "dev", device(namespace, prefix), "scope", "link", netns=namespace)
    return any("local" in info and "tentative" not in info for one in found for info in one.get("addr_info", ()))


def routes(namespace: str, family: str, dst: str = "", prefix: str = "") -> list[dict[str, Any]]:
    """The routes of all tables, of a destination and by the first device with a prefix if these are given."""
    words = ("root", dst) if dst else ("table", "all")
    by = ("dev", device(namespace, prefix)) if prefix else ()
    found = lab.ip_json(family, "route", "show", *words, *by, netns=namespace)
    return [{key: value for key, value in one.items() if key != "flags"} for one in found]


def everything(router: Router) -> list[str]:
    """All routes in all namespaces of a router, but for broadcasts, of which nothing depends."""
    found = [
        f"{prefix} {family} {one}"
        for prefix in PREFIXES
        for family in FAMILIES
        for one in routes(namespace_of(router, prefix), family)
        if one.get("type") != "broadcast"
    ]
    return sorted(found)


def added(agent: Agent, router: Router) -> list[str]:
    """Texts of what the next job adds and changes; events are what tells it to read."""
    plan = agent.once(router).plan
    return [change.text for changes in plan.changes for change in changes.items]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("prefix", "dev"), DEVICES)
def test_what_a_flush_of_a_device_takes_is_there_again(
    agent: Agent, router: Router, prefix: str, dev: str, family: str
) -> None:
    namespace, before = namespace_of(router, prefix), everything(router)
    name = device(namespace, dev)
    lab.run("ip", family, "-n", namespace, "route", "flush", "dev", name)
    assert everything(router) != before
    found = added(agent, router)
    assert any(text.startswith("+ connected route ") and text.endswith(f" dev {name}") for text in found), found
    assert everything(router) == before
    assert not agent.differs(router)


@pytest.mark.parametrize(("prefix", "dev"), DEVICES)
def test_a_connected_route_that_was_removed_alone_is_found_by_an_audit_too(
    agent: Agent, router: Router, prefix: str, dev: str
) -> None:
    namespace, before = namespace_of(router, prefix), everything(router)
    name = device(namespace, dev)
    for family in FAMILIES:
        for one in routes(namespace, family, prefix=dev):
            if (
                one["protocol"] == "kernel"
                and one.get("table", "main") == "main"
                and one.get("type", "unicast") == "unicast"
            ):
                lab.run("ip", family, "-n", namespace, "route", "delete", one["dst"], "dev", name)
    result = agent.once(router, in_resync=True, trusting=False)
    items = [change for changes in result.plan.changes for change in changes.items]
    assert {(change.action, type(change.item)) for change in items} == {(Action.ADD, KernelRoute)}
    assert everything(router) == before
    assert not agent.differs(router)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("prefix", "dev"), DEVICES)
def test_a_flush_of_all_tables_takes_local_routes_which_are_there_again(
    agent: Agent, router: Router, prefix: str, dev: str, family: str
) -> None:
    namespace, before = namespace_of(router, prefix), everything(router)
    lab.run("ip", family, "-n", namespace, "route", "flush", "table", "all", "dev", device(namespace, dev))
    found = added(agent, router)
    assert any(text.startswith("+ local route ") for text in found), found
    assert everything(router) == before
    assert not agent.differs(router)
