"""Whatever the server answers: no thread of the source ends, others do not wait, a right answer sets all right."""

from __future__ import annotations

import copy
import json
import logging
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from dvr_agent.extensions import Extension
from dvr_agent.sources.api import DataPlane
from dvr_agent.sources.neutron.api import ArpEntry, Json, NetworkUpdated, Notification, ObjectsPushed, RoutersUpdated
from dvr_agent.sources.neutron.objects import TYPES
from tests.support import hostile, mutated_documents
from tests.support.scripted_neutron import GATEWAY_PORT, HOST, NETWORK, Desk, Server, desk
from tests.support.waiting import wait_for

WRONG: Sequence[Any] = (
    None, True, 0, -1, 1e300, "", "x", "\0", "é" * 300, [], {}, [None], [{}], [[1]], {"id": None}, {"a": {"b": []}},
)  # fmt: skip
STEPS = 8
NAMES = [name for name in mutated_documents.NAMES if name.endswith(HOST)]
SEEDS = [*range(20), *(pytest.param(seed, marks=pytest.mark.full) for seed in range(20, 400))]


class HostileServer(Server):
    """A server whose answers may be anything."""

    def load(self, state: Mapping[str, Any]) -> None:
        for name in ("routers", "ports", "gateways", "objects"):
            value = copy.deepcopy(state[name])
            setattr(self, name, value if isinstance(value, dict) else {})

    def bulk_pull(self, resource_type: str, version: str, filters: Mapping[str, object]) -> list[Json]:
        if resource_type == "Port":
            return super().bulk_pull(resource_type, version, filters)
        found: Any = self.objects.get(resource_type, [])
        return found


def start(dice: random.Random, server: HostileServer) -> tuple[str, dict[str, Any]]:
    """A recorded router beside another; returns its id and what the server knows."""
    document = json.loads(mutated_documents.DOCUMENTS[dice.choice(NAMES)])
    server.add(5)
    router = document["router"]
    state = {
        "routers": {router["id"]: router, **server.routers},
        "ports": {**document.get("ports_by_subnet", {}), **server.ports},
        "gateways": {NETWORK: GATEWAY_PORT},
        "objects": {kind.name: document[kind.key] for kind in TYPES if document.get(kind.key)},
    }
    server.listed = [*state["routers"]]
    return router["id"], state


def changed(state: Any, dice: random.Random) -> Any:
    """What the server knows, with something else in one place: another value of the kind, or anything."""
    if dice.random() < 0.5:
        return mutated_documents.mutate(state, dice)[0]
    place = dice.choice([one for one in hostile.places(state) if one])
    return hostile.replaced(state, place, copy.deepcopy(dice.choice(WRONG)))


def say(a: Desk, router_id: str, state: Mapping[str, Any], dice: random.Random) -> None:
    """One of the server's notifications, not always a right one."""
    subnet = dice.choice([*a.server.ports, "x"])
    address, mac = dice.choice(["10.1.0.9", "224.0.0.1", "::1", "x", ""]), dice.choice(["fa:16:3e:00:00:01", "x", ""])
    kind = dice.choice([*TYPES]).name
    objects = state["objects"].get(kind) if isinstance(state["objects"], dict) else None
    listed = tuple(one for one in objects if isinstance(one, dict)) if isinstance(objects, list) else ()
    event = dice.choice(["created", "updated", "deleted", "x"])
    choices: list[Notification] = [
        RoutersUpdated((router_id,)),
        RoutersUpdated((router_id, "x", "")),
        ArpEntry(router_id, str(subnet), address, mac, dice.random() < 0.5),
        ObjectsPushed(dice.choice([kind, "Elephant"]), event, listed),
        NetworkUpdated(dice.choice([NETWORK, "x"]), dice.choice([None, 0, 1500])),
    ]
    a.say(dice.choice(choices))


@pytest.mark.parametrize("seed", SEEDS)
def test_after_any_answers_a_right_one_gives_the_right_documents(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, seed: int
) -> None:
    dice, server = random.Random(seed), HostileServer()
    router_id, state = start(dice, server)
    server.load(state)
    with desk(server, tmp_path, extensions=frozenset(Extension)) as a:
        a.sync()
        documents = {one: a.router(one) for one in server.listed or ()}
        for _ in range(STEPS):
            wrong = state
            for _ in range(dice.choice([1, 2, 3])):
                wrong = changed(wrong, dice)
            server.load(wrong)
            say(a, router_id, wrong, dice)
            if dice.random() < 0.6:
                a.sync()
            if (found := a.source.document(router_id)) is not None:
                a.settle(router_id, dice.choice(list(DataPlane)), found.router)
        server.load(state)

        def all_right() -> bool:
            a.sync()  # what was announced as deleted is believed a moment later
            return all(a.source.document(one) and a.router(one) == router for one, router in documents.items())

        wait_for(all_right)
    bugs = [one for one in caplog.records if "this is a bug" in one.getMessage()]
    assert not bugs, "\n".join(map(logging.Formatter().format, bugs))
