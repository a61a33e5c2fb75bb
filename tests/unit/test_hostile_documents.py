"""Whatever the bytes: a document gives a Router or a DocumentError, nothing else."""

from __future__ import annotations

import json
import random
import re
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from dvr_agent.errors import DocumentError
from dvr_agent.model.parse import parse_document, peek_router_id
from dvr_agent.model.router import Router
from tests.support import hostile
from tests.support.recorded_documents import RECORDED

CORPUS = hostile.corpus()
# Machines that run tests are often busy: how long an example takes says nothing.
FUZZ = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
UUID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def handled(data: bytes) -> Router | None:
    """Parse: the Router, which is then fit for use, or None where one readable error came."""
    peeked = peek_router_id(data)
    assert peeked is None or UUID.fullmatch(peeked)
    error = None
    try:
        router = parse_document(data, "hostile.json")
    except DocumentError as caught:
        error = caught
    if error is not None:
        assert error.document == "hostile.json"
        assert error.path.startswith("$")
        assert error.expected
        assert len(error.value) <= 80
        assert str(error).isprintable()
        return None
    assert peeked == router.id
    assert isinstance(hash(router), int)
    assert router.name.isprintable()
    ports = [*router.interfaces, *router.snat_interfaces, *router.agent_gateways]
    ports += [router.gateway] if router.gateway else []
    ids = [router.id, *(port.id for port in ports), *(port.network_id for port in ports)]
    ids += [port.id for _, listed in router.ports_by_subnet for port in listed]
    assert all(UUID.fullmatch(found) for found in ids)
    assert len({port.id[:11] for port in ports}) == len(ports)
    assert all(68 <= port.mtu <= 65535 for port in ports)
    return router


def test_corpus_is_large_varied_and_the_same_each_time() -> None:
    assert len(CORPUS) >= 250
    assert len({name for name, _ in CORPUS}) == len(CORPUS)
    assert len({data for _, data in CORPUS}) >= 250
    assert hostile.corpus() == CORPUS
    rejected = sum(handled(data) is None for _, data in CORPUS)
    assert rejected >= 200
    assert rejected < len(CORPUS)


@pytest.mark.parametrize("data", [data for _, data in CORPUS], ids=[name for name, _ in CORPUS])
def test_corpus_document_is_parsed_or_rejected(data: bytes) -> None:
    handled(data)


@FUZZ
@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    handled(data)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(sorted(hostile.USED_KEYS)), inner),
    max_leaves=30,
)


@FUZZ
@given(JSON)
def test_any_json(value: Any) -> None:
    handled(json.dumps(value).encode())


@FUZZ
@given(
    st.sampled_from(sorted(RECORDED)),
    st.randoms(use_true_random=False),
    st.integers(min_value=1, max_value=4),
)
def test_mutated_recordings(name: str, rng: random.Random, changes: int) -> None:
    document = json.loads(RECORDED[name])
    for _ in range(changes):
        if isinstance(document, dict) and document:
            _, document = hostile.mutate(document, rng)
    handled(json.dumps(document).encode())


@FUZZ
@given(st.sampled_from(sorted(RECORDED)), st.data())
def test_any_json_in_place_of_any_value(name: str, data: st.DataObject) -> None:
    document = json.loads(RECORDED[name])
    place = data.draw(st.sampled_from(list(hostile.places(document))))
    handled(json.dumps(hostile.replaced(document, place, data.draw(JSON))).encode())


@FUZZ
@given(st.sampled_from(sorted(RECORDED)), st.data())
def test_changed_bytes(name: str, data: st.DataObject) -> None:
    text = bytearray(RECORDED[name])
    for _ in range(data.draw(st.integers(min_value=1, max_value=8))):
        text[data.draw(st.integers(min_value=0, max_value=len(text) - 1))] = data.draw(st.integers(0, 255))
    handled(bytes(text))


@FUZZ
@given(st.text())
@example("\\")
@example('"')
def test_peek_survives_any_text(text: str) -> None:
    for data in (text.encode("utf-8", "surrogatepass"), b'{"id": "' + text.encode("utf-8", "surrogatepass")):
        assert peek_router_id(data) is None or UUID.fullmatch(peek_router_id(data) or "")


@pytest.mark.parametrize("unit", [b"[", b'{"router":', b'\\"', b'"', b"[],", b'"\\', b"\\"])
def test_peek_gives_up_on_endless_nonsense(unit: bytes) -> None:
    assert peek_router_id(b'{"x": ' + unit * (2 * 1024 * 1024 // len(unit))) is None
