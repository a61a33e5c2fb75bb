"""Decodes JSON text to plain Python values, by msgspec where it is installed, else by the standard library.

msgspec is several times as fast; Debian 12 does not have it.  Both refuse the same texts and make the same values of
the others: no NaN, no infinity, no number too large for a float, no half of a surrogate pair, no integer of more digits
than Python converts, no deeper nesting than Python's recursion limit.  Of a key that an object has twice the last value
holds.  ``tests/unit/test_json_text.py`` compares the two.  Used by ``reader`` and ``peek``.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

try:
    import msgspec
except ImportError:  # Debian 12
    msgspec = None  # type: ignore[assignment]

TRUNCATED = "Input data was truncated"
"""The reason for a text that ends too early, a half-written file for example."""

_BYTE = re.compile(r"\(byte ([0-9]+)\)")
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|.)", re.DOTALL)
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


class JsonTextError(ValueError):
    """A text is not JSON, or holds a value that JSON's readers do not agree on.

    :param reason: what is wrong, a clause in English
    :param byte: offset into the UTF-8 text where it was noticed, None where the decoder does not say
    """

    def __init__(self, reason: str, byte: int | None) -> None:
        super().__init__(reason, byte)
        self.reason, self.byte = reason, byte


def decode_json(text: str) -> object:
    """Decode a JSON text into dict, list, str, int, float, bool and None.

    :raises JsonTextError: the text is not JSON
    :raises RecursionError: it is nested deeper than Python's recursion limit
    """
    return _decode_by_json(text) if msgspec is None else _decode_by_msgspec(text)


def _decode_by_msgspec(text: str) -> object:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as exc:
        found = _BYTE.search(str(exc))
        reason = str(exc).removeprefix("JSON is malformed: ").partition(" - at ")[0]
        raise JsonTextError(_BYTE.sub("", reason).rstrip(), int(found[1]) if found else None) from None


def _decode_by_json(text: str) -> object:
    try:
        value = _DECODER.decode(text)
        _refuse_half_surrogates(text)
    except json.JSONDecodeError as exc:
        if exc.pos >= len(text.rstrip()) or exc.msg.startswith("Unterminated string"):
            raise JsonTextError(TRUNCATED, None) from None
        raise JsonTextError(exc.msg, len(text[: exc.pos].encode())) from None
    except JsonTextError:
        raise
    except ValueError:  # the limit of sys.set_int_max_str_digits()
        raise JsonTextError("Integer value out of range", None) from None
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise JsonTextError(f"{name} is no number of JSON", None)


def _finite(number: str) -> float:
    value = float(number)
    if math.isinf(value):
        raise JsonTextError("Number out of range", None)
    return value


def _refuse_half_surrogates(text: str) -> None:
    """Raise JsonTextError for an escaped surrogate without its other half, which no UTF-8 text can hold."""
    if not _SURROGATE.search(text):
        return
    awaited = -1  # where the second half of a pair has to begin, -1 where none may stand
    for escape in _ESCAPE.finditer(text):
        code = int(escape[1] or "0", 16)
        is_second = 0xDC00 <= code < 0xE000
        if awaited != (escape.start() if is_second else -1):
            break
        awaited = escape.end() if 0xD800 <= code < 0xDC00 else -1
    else:
        if awaited < 0:
            return
    raise JsonTextError("Half of a surrogate pair", None)


_DECODER: Any = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite)
