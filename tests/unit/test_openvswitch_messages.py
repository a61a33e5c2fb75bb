"""What the Open vSwitch driver makes of the OVSDB server's messages: JSON in pieces, rows, changes, names."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvr_agent.attach.openvswitch.json_stream import StreamParser
from dvr_agent.attach.openvswitch.row_index import RowIndex
from dvr_agent.attach.openvswitch.rows_copy import Event, Rows
from dvr_agent.attach.openvswitch.schema import TABLES, Kind, decode

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.sampled_from('ab{}[]"\\ \n:,é😀'), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=12,
)


def parsed(pieces: list[str]) -> list[Any]:
    """As ovs.jsonrpc feeds its parser."""
    messages, parser = [], StreamParser()
    for piece in pieces:
        while piece:
            piece = piece[parser.feed(piece) :]
            if parser.is_done():
                messages.append(parser.finish())
                parser = StreamParser()
    return messages


@settings(max_examples=300)
@given(st.lists(st.dictionaries(st.text(max_size=4), VALUES, max_size=3), max_size=3), st.booleans(), st.data())
def test_messages_are_read_whatever_the_pieces(messages: list[dict[str, Any]], ascii_only: bool, data: Any) -> None:
    text = "\n".join(json.dumps(message, ensure_ascii=ascii_only) for message in messages)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    pieces = [text[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert parsed(pieces) == messages


@pytest.mark.parametrize(
    "text", ['{"a":1 "b":2}', "{]}", "[1]", "x", '{"a": "\n"}', '{"a":' * 100_000 + "1" + "}" * 100_000]
)
def test_a_malformed_message_is_an_error_as_text(text: str) -> None:
    (error,) = parsed([text])
    assert isinstance(error, str)


def test_an_incomplete_message_is_waited_for() -> None:
    parser = StreamParser()
    assert parser.feed('{"a": {"b": "}') == 14
    assert not parser.is_done()


def test_values_are_read_in_each_notation_of_ovsdb() -> None:
    assert decode(Kind.OPTIONAL, ["set", []]) is None
    assert decode(Kind.OPTIONAL, ["set", [7]]) == decode(Kind.OPTIONAL, 7) == 7
    assert decode(Kind.REFERENCES, ["uuid", "p"]) == decode(Kind.REFERENCES, ["set", [["uuid", "p"]]]) == {"p"}
    assert decode(Kind.MAP, ["map", [["a", "b"]]]) == {"a": "b"}
    assert {kind.empty() is None for kind in TABLES["Interface"].values()} == {True, False}


class Copy:
    """Rows and their index, told as ``database`` tells it."""

    def __init__(self) -> None:
        self.rows = Rows()
        self.index = RowIndex(self.rows, "br-int")
        bridges = {"b": {"initial": {"name": "br-int", "ports": ["uuid", "p0"]}}, "c": {"initial": {"name": "br-ex"}}}
        self.rows.update({"Bridge": bridges, **self.pair("initial", 0, "eth0", {})})
        self.index.read_anew()

    @staticmethod
    def pair(how: str, number: int, name: str, ids: dict[str, str]) -> dict[str, Any]:
        external_ids = ["map", [list(pair) for pair in ids.items()]]
        return {
            "Port": {f"p{number}": {how: {"name": name}}},
            "Interface": {f"i{number}": {how: {"name": name, "type": "internal", "external_ids": external_ids}}},
        }

    def tell(self, updates: dict[str, Any]) -> list[tuple[Event, str]]:
        changes = self.rows.update(updates)
        for change in changes:
            self.index.row_changed(change)
            if change.row.table == "Interface":
                self.index.interface_changed(change)
        return [(event, row.uuid) for event, row, _ in changes]

    def move(self, bridge: str, *ports: str) -> dict[str, Any]:
        return {bridge: {"modify": {"ports": ["set", [["uuid", port] for port in ports]]}}}


def test_an_index_follows_ports_that_come_change_move_and_go() -> None:
    copy = Copy()
    index = copy.index
    assert index.port("eth0") is not None
    assert index.port("qr-1") is None
    ids = {"iface-id": "x", "dvr-agent-namespace": "qrouter-a"}
    copy.tell({"Bridge": copy.move("b", "p1"), **copy.pair("insert", 1, "qr-1", ids)})
    row = index.port("qr-1")
    assert row is not None
    assert (row.bridge, row.type, row.ids, row.ofport, row.error, row.here) == ("br-int", "internal", ids, 0, "", False)
    assert dict(index.router_ports) == {"qr-1": "qrouter-a"}

    told = copy.tell({"Interface": {"i1": {"modify": {"ofport": 5, "error": "bad", "ifindex": 9}}}})
    assert told == [(Event.CHANGED, "i1")]
    row = index.port("qr-1")
    assert row is not None
    assert (row.ofport, row.error, row.here) == (5, "bad", True)
    copy.tell(
        {
            "Interface": {
                "i1": {"modify": {"ofport": ["set", []], "external_ids": ["map", [["iface-id", "x"], ["z", "1"]]]}}
            }
        }
    )
    row = index.port("qr-1")
    assert row is not None
    assert (row.ofport, row.ids) == (0, {"dvr-agent-namespace": "qrouter-a", "z": "1"})

    copy.tell({"Bridge": copy.move("b", "p1") | copy.move("c", "p1")})
    row = index.port("qr-1")
    assert row is not None
    assert row.bridge == "br-ex"
    copy.tell({"Bridge": {"c": {"delete": None}}})
    row = index.port("qr-1")
    assert row is not None
    assert row.bridge == ""
    copy.tell({"Port": {"p1": {"delete": None}}, "Interface": {"i1": {"delete": None}}})
    assert index.port("qr-1") is None
    assert not index.router_ports
    row = index.port("eth0")
    assert row is not None
    assert row.bridge == "br-int"


@pytest.mark.parametrize("first", ["old", "new"])
def test_a_port_that_is_made_anew_in_one_update_is_known_whatever_the_order(first: str) -> None:
    copy = Copy()
    ids = {"dvr-agent-namespace": "qrouter-a"}
    copy.tell({"Bridge": copy.move("b", "p1"), **copy.pair("insert", 1, "qr-1", ids)})
    new = copy.pair("insert", 2, "qr-1", ids)
    old: dict[str, Any] = {"Port": {"p1": {"delete": None}}, "Interface": {"i1": {"delete": None}}}
    one, other = (old, new) if first == "old" else (new, old)
    copy.tell({"Bridge": copy.move("b", "p1", "p2"), **{table: one[table] | other[table] for table in new}})
    row = copy.index.port("qr-1")
    assert row is not None
    assert row.bridge == "br-int"
    assert dict(copy.index.router_ports) == {"qr-1": "qrouter-a"}


def test_a_change_is_told_without_a_look_at_the_other_ports_of_a_bridge() -> None:
    copy = Copy()
    many = {f"p{number}" for number in range(10, 1010)}
    copy.tell({"Bridge": copy.move("b", *many)})
    bridge = copy.index.find("Bridge", "br-int")
    assert bridge is not None
    before = bridge.values["ports"]
    (change,) = copy.rows.update({"Bridge": copy.move("b", "p1")})
    assert change.columns == {"ports": {"p1"}}
    assert bridge.values["ports"] is before
    assert before == many | {"p0", "p1"}
