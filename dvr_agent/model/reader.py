"""Decodes bytes to plain JSON values, and names the place of a wrong value by its JSON path.

``json_text`` decodes into plain dicts and lists; our own checks in ``values``, ``ports`` and ``parse`` follow.
msgspec could decode straight into typed Structs, but its errors have neither the value nor the key of a mapping, and it
cannot check families, duplicates and host bits; a second description of each object would only serve half of the
checks.  Decoding unknown keys costs little: with 1,000 ports 1.7 ms against 1.4 ms for Structs, where making our own
values takes 10 ms.

A place in a document is a linked tuple ``(parent, key or index)``, ``None`` for the document itself: cheap to make on
the way down, turned into text only for an error.  Nothing here knows routers.  Used by the rest of
``dvr_agent.model``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from itertools import islice
from typing import Any, TypeAlias

from dvr_agent.model.json_text import JsonTextError, decode_json

At: TypeAlias = "tuple[At, str | int] | None"
"""A place in a document: parent and key or index; None is the document itself."""

VALUE_LENGTH = 80
"""Characters of a value that an error shows."""

_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


_TEXT = re.compile(r'("(?:[^"\\]|\\.)*(?:"|$))(\s*:)?|[^\s{}\[\],:"]{9,}', re.DOTALL)
"""A text in JSON, or the begin of one, and what makes a key of it; or what may be a text without quotation marks."""


class Verbatim(str):
    """Text that an error shows as it is, where a value of the document would be shown as JSON."""

    __slots__ = ()


MISSING = Verbatim("missing")
"""Stands for the value of a missing key."""


class Invalid(Exception):  # noqa: N818 - not an error of its own: parse.py makes a DocumentError of it
    """A value is not what it has to be.

    :param at: where it is
    :param value: the value as decoded, :data:`MISSING`, or a :class:`Verbatim` text
    :param expected: description of a right value
    """

    def __init__(self, at: At, value: object, expected: str) -> None:
        super().__init__(at, value, expected)
        self.at, self.value, self.expected = at, value, expected


def decode(data: bytes, max_size: int) -> object:
    """Decode UTF-8 JSON text.  Of a key that an object has twice the last value holds, as in other JSON readers.

    :param max_size: in bytes; a larger document is not decoded
    :raises Invalid: too large, not UTF-8, not JSON, or nested deeper than Python's recursion limit (1,000) allows
    """
    if len(data) > max_size:
        raise Invalid(None, Verbatim(f"{len(data)} bytes long"), f"at most {max_size} bytes")
    try:
        text = bytes(data).decode()
        return decode_json(text)
    except UnicodeDecodeError as exc:
        raise Invalid(None, Verbatim(f"{data[exc.start]:#04x} at byte {exc.start}"), "UTF-8 text") from None
    except JsonTextError as exc:
        raise _not_json(data, exc) from None
    except (RecursionError, MemoryError):
        raise Invalid(None, _excerpt(data, 0), "JSON that is not nested this deep") from None


def _not_json(data: bytes, error: JsonTextError) -> Invalid:
    """Return the error for text that is not JSON, with an excerpt from where the decoder stopped."""
    if data.startswith(b"\xef\xbb\xbf"):
        return Invalid(None, _excerpt(data, 0), "JSON without a byte order mark")
    start = error.byte if error.byte is not None else max(len(data) - 40, 0)
    place = f" (byte {error.byte})" if error.byte is not None else ""
    return Invalid(None, _excerpt(data, start), f"JSON ({error.reason}{place})")


def _excerpt(data: bytes, start: int) -> str:
    """Return what stands there, without the texts of values: nobody knows whose they are; one may be a password."""
    text = data[start : start + VALUE_LENGTH].decode("utf-8", "replace")
    before, begin = data[:start], ""
    if (before.count(b'"') - before.count(b'\\"')) % 2:  # it begins within a text
        rest, quote, text = text.partition('"')
        begin = f"{'…' if rest else ''}{quote}"
    return begin + _TEXT.sub(lambda found: found[0] if found[2] else '"…"' if found[1] else "…", text)


def json_path(at: At) -> str:
    """Return the place as a JSON path: ``$.router._interfaces[0]["binding:host_id"]``; keys cut to 80 characters."""
    parts: list[str] = []
    while at is not None:
        at, key = at
        if isinstance(key, int):
            parts.append(f"[{key}]")
        elif len(key) <= VALUE_LENGTH and _PLAIN_KEY.fullmatch(key):
            parts.append(f".{key}")
        else:
            parts.append(f"[{show(key)}]")
    return "$" + "".join(reversed(parts))


def show(value: object) -> str:
    """Return a value as JSON of at most 80 printable characters, in one line.

    Of an object only the keys are shown: nobody knows what is in there, and it may be a password.
    """
    if isinstance(value, Verbatim):
        return _cut(printable(value, VALUE_LENGTH + 1))
    if isinstance(value, str):
        value = value[: VALUE_LENGTH + 1]
    text = ""
    try:
        # iterencode is lazy: neither a large nor a deep value is walked further than is shown.
        for chunk in json.JSONEncoder(ensure_ascii=False).iterencode(_without_values(value)):
            text += chunk[: VALUE_LENGTH + 1]
            if len(text) > VALUE_LENGTH:
                break
    except ValueError:  # an integer of more digits than Python converts
        text += "<a number with very many digits>"
    return _cut(printable(text, VALUE_LENGTH + 1))


def _without_values(value: object, depth: int = 8) -> object:
    """Return the value with all that is in objects left out; no more of it than is shown."""
    if isinstance(value, dict):
        return {str(key)[: VALUE_LENGTH + 1]: "…" for key in islice(value, VALUE_LENGTH)}
    if isinstance(value, list):
        return [_without_values(one, depth - 1) for one in islice(value, VALUE_LENGTH)] if depth else ["…"]
    return value


def _cut(text: str) -> str:
    return text if len(text) <= VALUE_LENGTH else text[: VALUE_LENGTH - 1] + "…"


def printable(text: str, limit: int) -> str:
    """Return text that cannot forge a log line: unprintable characters escaped (``\\n``), cut to ``limit``."""
    text = text[:limit]
    if text.isprintable():
        return text
    escaped = (c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
    return "".join(escaped)[:limit]


def mapping(value: object, at: At) -> dict[str, Any]:
    """Return a JSON object.

    :raises Invalid: it is something else
    """
    if isinstance(value, dict):
        return value
    raise Invalid(at, value, "an object")


def array(value: object, at: At) -> list[Any]:
    """Return a JSON array.

    :raises Invalid: it is something else
    """
    if isinstance(value, list):
        return value
    raise Invalid(at, value, "an array")


def boolean(value: object, at: At) -> bool:
    """Return a JSON true or false; numbers and texts are refused.

    :raises Invalid: it is something else
    """
    if isinstance(value, bool):
        return value
    raise Invalid(at, value, "true or false")


class Unique:
    """Remembers values and their places, to refuse the second of two equal ones.

    :param what: description of a unique value, for the error
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._seen: dict[object, At] = {}

    def add(self, key: object, at: At, value: object) -> None:
        """Remember ``key``, found at ``at`` as ``value``.

        :raises Invalid: an equal one is remembered already
        """
        first = self._seen.setdefault(key, at)
        if first is not at:
            raise Invalid(at, value, f"{self._what}, but {json_path(first)} has the same")

    def add_all(self, keys: Collection[object], at: At) -> None:
        """Remember keys that are all found at ``at``.

        :raises Invalid: two of them are equal, or one is remembered already
        """
        expected = len(self._seen) + len(keys)
        self._seen.update(dict.fromkeys(keys, at))
        if len(self._seen) != expected:
            raise Invalid(at, Verbatim("a list"), self._what)
