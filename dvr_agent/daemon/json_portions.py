"""Encodes long answers as JSON in portions, so that other green threads have their turn between them.

The text is that of :func:`json.dumps`.  A thread of its own would not do: the encoder keeps the interpreter's lock.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from itertools import islice

from dvr_agent.daemon import eventlet_shim

PORTION = 50
"""Items of a list that are encoded at once."""
TURN = 0.005
"""Seconds of work after which other green threads have their turn."""


def encode(value: object) -> bytes:
    """Return a value as JSON; an iterator is a list, whose items are made portion by portion."""
    found, since = [], time.monotonic()
    for piece in pieces(value):
        found.append(piece)
        if time.monotonic() - since >= TURN:
            eventlet_shim.sleep(0)
            since = time.monotonic()
    return "".join(found).encode()


def pieces(value: object) -> Iterator[str]:
    """Yield the JSON text of a value: one piece for each portion of a list; the values of mappings are divided, too."""
    if isinstance(value, Mapping):
        yield "{"
        for number, (key, item) in enumerate(value.items()):
            yield f"{', ' if number else ''}{json.dumps(str(key))}: "
            yield from pieces(item)
        yield "}"
    elif isinstance(value, list | tuple | Iterator):
        yield "["
        rest, comma = iter(value), ""
        while portion := list(islice(rest, PORTION)):
            yield comma + json.dumps(portion)[1:-1]
            comma = ", "
        yield "]"
    else:
        yield json.dumps(value)
