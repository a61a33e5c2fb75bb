"""The registry of kinds: each kind of kernel object has everything that ``docs/adding-a-kind.md`` names."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import NamedTuple, get_type_hints

import pytest

from dvr_agent.kernel.fake import FakeNamespace
from dvr_agent.kernel.kinds import HANDLERS, SPECIAL
from dvr_agent.state.diff import Action, Change, diff
from dvr_agent.state.kind import AnyKind, KernelObject, Kind, on_own_device, only_device
from dvr_agent.state.namespace import (
    KIND_OF,
    KINDS,
    NamespaceState,
    without_device,
)
from dvr_agent.state.order import phases
from dvr_agent.state.ownership import Ownership, RuleOwner
from dvr_agent.state.policer import POLICER_KIND, Policer
from dvr_agent.state.route import Hop, make_route
from dvr_agent.state.rule import Rule
from dvr_agent.state.slices import SliceIndex
from dvr_agent.state.sysctl import Sysctl
from tests.support.contract_objects import EXAMPLES
from tests.support.contract_world import NEAR, NEAR_LINK, bare
from tests.support.strategies import OBJECTS

NEVER_MADE = {POLICER_KIND}
"""Kinds that are removed only: the contract suite cannot add one."""
IDS = [kind.name for kind in KINDS]
EMPTY = NamespaceState("n", Ownership(prefixes=("qr-", "rfp-"), rules=RuleOwner.QROUTER))


def missing(kind: AnyKind) -> list[str]:
    """Name everything that a kind has to have and has not."""
    found = {
        "an entry in state.namespace.KINDS": kind in KINDS,
        "a field in NamespaceState": kind.field in {one.name for one in fields(NamespaceState)},
        "a handler in kernel.kinds": kind in {handler.kind for handler in HANDLERS} or kind in SPECIAL,
        "objects in the fake kernel": kind in FakeNamespace().objects or kind in SPECIAL,
        "an example for the contract suite": kind in (*SPECIAL, *NEVER_MADE)
        or any(type(item) is kind.type for item in EXAMPLES),
        "a strategy for the property tests": kind.type in OBJECTS,
        "a text": isinstance(getattr(kind.type, "text", None), property),
    }
    return [what for what, there in found.items() if not there]


def example(kind: AnyKind) -> KernelObject:
    """Return some object of the kind."""
    items: list[KernelObject] = [
        *EXAMPLES,
        bare(NEAR_LINK),
        Policer(0x80000800, 0x80010000, NEAR, "leaving", "203.0.113.5"),
        Sysctl(f"ipv4/conf/{NEAR}/send_redirects", "0"),
    ]
    return next(item for item in items if type(item) is kind.type)


def only(kind: AnyKind, *items: object) -> NamespaceState:
    return replace(EMPTY, **{kind.field: frozenset(items)})  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS, ids=IDS)
def test_nothing_is_missing(kind: AnyKind) -> None:
    assert missing(kind) == []


def test_a_kind_that_was_forgotten_is_noticed() -> None:
    class Nothing(NamedTuple):
        device: str

    kind = Kind(Nothing, "nothing", "nothings", 0, 0, on_own_device, only_device)  # type: ignore[type-var]
    assert len(missing(kind)) == 7


def test_every_set_of_objects_in_a_state_is_of_a_kind() -> None:
    hints = get_type_hints(NamespaceState)
    sets = {name for name, hint in hints.items() if getattr(hint, "__origin__", None) is frozenset}
    assert sets - {"link_locals", "adverse"} == {kind.field for kind in KIND_OF.values()}


def test_names_and_types_are_unique() -> None:
    kinds = KIND_OF.values()
    assert len({kind.name for kind in kinds}) == len({kind.field for kind in kinds}) == len(KIND_OF) == len(KINDS) + 1


@pytest.mark.parametrize("kind", KINDS, ids=IDS)
def test_diff_adds_it_and_removes_it(kind: AnyKind) -> None:
    item = example(kind)
    assert diff(EMPTY, only(kind, item)).items == (Change(Action.ADD, item),)
    removal = (Change(Action.REMOVE, item, item),) if kind.removable else ()
    assert diff(only(kind, item), EMPTY).items == removal
    assert diff(only(kind, item), only(kind, item)).items == ()


@pytest.mark.parametrize("kind", KINDS, ids=IDS)
def test_it_has_a_place_in_the_order(kind: AnyKind) -> None:
    item = example(kind)
    changes = [Change(Action.ADD, item), Change(Action.REMOVE, item, item)]
    order = phases([*changes, Change(Action.ADD, Sysctl("a", "1"))])
    built, removed = (
        (*order.build, *order.lead),
        (*order.before, *order.stop, *order.unroute, *order.withdraw, *order.late),
    )
    assert {change.action for change in (*built, *removed)} == {Action.ADD, Action.REMOVE}
    assert Change(Action.ADD, item).kind == kind.name


@pytest.mark.parametrize("kind", KINDS, ids=IDS)
def test_what_goes_with_a_device_is_left_out_with_it(kind: AnyKind) -> None:
    item = example(kind)
    devices = kind.devices(item)
    state = only(kind, item)
    for device in devices:
        assert without_device(state, device) == (EMPTY if kind.goes_with_device else state)
    assert without_device(state, "other") == state


def test_a_slice_has_the_objects_of_its_devices_and_tables_only() -> None:
    mine = make_route("10.9.0.0/16", 254, Hop("10.0.0.1", "fpr-a"))
    table = make_route("0.0.0.0/0", 77, Hop("10.0.0.1", "fg-a"))
    other_table = make_route("10.8.0.0/16", 99, Hop("10.0.0.1", "fpr-a"))
    shared = make_route("10.7.0.0/16", 254, Hop("10.0.0.1", "fpr-a"), Hop("10.0.0.1", "fpr-b"))
    rules = [Rule(4, 77, 77, None, "fpr-a"), Rule(4, 88, 88, None, "fpr-b"), Rule(4, 5, 77, None, "fpr-a")]
    whole = replace(
        EMPTY, routes=frozenset({mine, table, other_table, shared}), rules=frozenset(rules), ownership=Ownership()
    )
    ownership = Ownership(devices=frozenset({"fpr-a"}), rules=RuleOwner.BY_IIF, tables=frozenset({77}), main_only=True)
    index = SliceIndex(whole)
    found = index.take(ownership)
    assert found.routes == {mine, table}
    assert not index.take(ownership).routes, "no copy of it is kept"
    assert found.rules == {rules[0]}
    assert (found.name, found.ownership) == ("n", ownership)
