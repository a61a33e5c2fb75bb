"""The two decoders of JSON text: what one refuses the other refuses, and of all other texts they make the same."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvr_agent.model import json_text
from dvr_agent.model.json_text import JsonTextError, decode_json

Decoder = Callable[[str], object]
DECODERS: list[Any] = [json_text._decode_by_json]
if importlib.util.find_spec("msgspec") is not None:
    DECODERS.append(json_text._decode_by_msgspec)
each_decoder = pytest.mark.parametrize("decode", DECODERS)
needs_both = pytest.mark.skipif(len(DECODERS) < 2, reason="msgspec is not installed: there is one decoder only")

REFUSED = [
    *(
        "",
        " ",
        "nul",
        "[",
        '{"a"',
        '{"a":',
        '"x',
        "[1,]",
        '{"a":1,}',
        "{1:2}",
        "{'a':1}",
        "1 2",
        "01",
        "1.",
        ".5",
        "+1",
    ),
    *("NaN", "Infinity", "-Infinity", '{"mtu": NaN}', "1e400", "-1e400", "1.8e308", "1" * 5000),
    *('"\t"', '"\x01"', r'"\x"', r'"\u12"', "\ufeff1", "\x0b1"),
    *(
        r'"\ud800"',
        r'"\udc00"',
        r'"\udc00x"',
        r'"\ud800\u0041"',
        r'"\ud800\ud800"',
        r'"\ud800\n"',
        r'["\ud83d","\ude00"]',
        r'["\ud83d","\u0041"]',
        r'"\ud800x\n"',
        r'"\ud83dx\ud83d\ude00"',
    ),
]
ACCEPTED: list[tuple[str, object]] = [
    (r'"\ud83d\ude00"', "😀"),
    (r'"\\ud800"', "\\ud800"),
    (r'"\\\ud83d\ude00\\"', "\\😀\\"),
    ('{"a": 1, "a": 2}', {"a": 2}),
    ("1" * 4000, int("1" * 4000)),
    ("-0", 0),
    ("1e-400", 0.0),
    ("1.5e308", 1.5e308),
    ('"\u2028\x7f"', "\u2028\x7f"),
    (r'"\u0000"', "\0"),
]

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
pieces = st.sampled_from(
    [
        *('"', "\\", "\\ud83d", "\\ude00", "\\u0041", "{", "}", "[", "]", ":", ",", "1", "0", "-", ".", "e9", "e400"),
        *("true", "null", "NaN", " ", "\n", "é", "\\n", '"a"', '"a":1', "\t", "\\"),
    ]
)


@each_decoder
@pytest.mark.parametrize("text", REFUSED, ids=lambda text: repr(text[:20]))
def test_text_is_refused(decode: Decoder, text: str) -> None:
    with pytest.raises(JsonTextError) as caught:
        decode(text)
    assert caught.value.reason
    assert caught.value.byte is None or 0 <= caught.value.byte <= len(text.encode())


@each_decoder
@pytest.mark.parametrize(("text", "value"), ACCEPTED, ids=lambda text: repr(text)[:20])
def test_text_is_accepted(decode: Decoder, text: str, value: object) -> None:
    found = decode(text)
    assert found == value
    assert type(found) is type(value)


@each_decoder
@pytest.mark.parametrize("opening", ["[", '{"router":'])
def test_deep_nesting_raises_recursion_error_at_the_recursion_limit(decode: Decoder, opening: str) -> None:
    closing = "]" if opening == "[" else "}"
    shallow = sys.getrecursionlimit() // 4
    assert decode(opening * shallow + "1" + closing * shallow)
    with pytest.raises(RecursionError):
        decode(opening * 100_000)


@each_decoder
def test_error_names_the_byte_and_not_the_character(decode: Decoder) -> None:
    with pytest.raises(JsonTextError) as caught:
        decode('{"é": @}')
    assert caught.value.byte == 7


@each_decoder
def test_half_written_text_is_called_truncated(decode: Decoder) -> None:
    whole = json.dumps({"router": {"id": "x", "list": [1, {"a": None}]}})
    for end in range(1, len(whole)):
        with pytest.raises(JsonTextError) as caught:
            decode(whole[:end])
        if whole[end - 1] not in "nul":  # half of a literal
            assert caught.value.reason == json_text.TRUNCATED, whole[:end]


@each_decoder
@given(value=values)
def test_round_trip(decode: Decoder, value: object) -> None:
    for ascii_only in (True, False):
        assert decode(json.dumps(value, ensure_ascii=ascii_only)) == value


@needs_both
@given(text=st.lists(pieces, max_size=12).map("".join))
def test_decoders_agree_on_any_text(text: str) -> None:
    one, two = (_outcome(decode, text) for decode in DECODERS)
    assert one == two, text


def test_decoder_in_use_is_msgspec_where_it_is_installed() -> None:
    assert decode_json('{"a": [1]}') == {"a": [1]}


def _outcome(decode: Decoder, text: str) -> object:
    try:
        return repr(decode(text))
    except JsonTextError:
        return JsonTextError
