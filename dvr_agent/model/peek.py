"""Finds the router id in a document that cannot be parsed.

A broken document must not be taken for a deletion of its router; its id says which router must stay unchanged.  Best
effort: a document that is JSON is decoded, any other is searched for the id (a half-written file breaks off somewhere).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice

from dvr_agent.model.json_text import decode_json
from dvr_agent.model.values import canonical_id

# A string (perhaps broken off by the end; possessive, so that no input makes it backtrack) or a bracket.
_TOKEN = re.compile(rb'"((?:[^"\\]++|\\.)*+)(?:"|\\?\Z)|[{}\[\]]', re.DOTALL)
_ID = re.compile(rb'\s*:\s*"([0-9a-fA-F-]{36})"')
_OPENS_OBJECT = re.compile(rb"\s*:\s*\{")

# Limits of the search: a sound document of 16 MiB has about half a million tokens and is ten levels deep.
_MAX_TOKENS = 1_000_000
_MAX_DEPTH = 64


def peek_router_id(data: bytes) -> str | None:
    """Return the router id of a document that cannot be parsed, None if it has no readable one.  Raises nothing."""
    data = bytes(data)
    try:
        document = decode_json(data.decode())
    except (ValueError, RecursionError, MemoryError):
        return next(_ids_in_text(data), None)
    router = document.get("router", document) if isinstance(document, dict) else None
    return canonical_id(router.get("id")) if isinstance(router, dict) else None


def _ids_in_text(data: bytes) -> Iterator[str]:
    """Find values of the router's ``id`` key: at depth 1, or at depth 2 inside ``router``, by counting brackets."""
    depth, envelope = 0, False
    for token in islice(_TOKEN.finditer(data), _MAX_TOKENS):
        if depth > _MAX_DEPTH:
            return
        opening = token[0][:1]
        if opening in b"{[":
            depth += 1
        elif opening in b"}]":
            depth -= 1
            envelope = envelope and depth > 1
        elif depth == 1 and token[1] == b"router" and _OPENS_OBJECT.match(data, token.end()):
            envelope = True
        elif token[1] == b"id" and (depth == 1 or (depth == 2 and envelope)):
            value = _ID.match(data, token.end())
            found = canonical_id(value[1].decode("ascii")) if value else None
            if found:
                yield found
