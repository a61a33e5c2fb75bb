"""Makes digests of values, equal in each process that has equal values: what a process leaves for its successor.

Pickle and ``hash()`` do not: the one depends on which objects are shared, the other on the process.  Used for
desired states by ``reconcile.kept_trust``, and for the configuration by ``daemon.kept_events``.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Mapping
from operator import attrgetter

_PLAIN = frozenset({str, int, bool, float, bytes, type(None)})
_SEQUENCES, _SETS = (tuple, list), (frozenset, set)
_readers: dict[type, Callable[[object], Iterable[object]]] = {}
"""Dataclass → what returns the values of one, but for those that its comparison ignores."""


def digest_of(*values: object) -> str:
    """Return a digest of values: dataclasses, tuples, sets, mappings, and what ``repr()`` describes in full."""
    return hashlib.blake2b(_text(values).encode(), digest_size=16).hexdigest()


def _text(value: object) -> str:
    kind = type(value)
    if kind in _PLAIN:
        return repr(value)
    if isinstance(value, _SEQUENCES):
        return f"{kind.__name__}({','.join(_texts(value))})"
    if isinstance(value, _SETS):
        return f"{{{','.join(sorted(_texts(value)))}}}"
    read = _readers.get(kind)
    if read is None:
        if isinstance(value, Mapping):
            return f"{{{','.join(sorted(_texts(value.items())))}}}"
        if not dataclasses.is_dataclass(value):
            return repr(value)
        read = _readers[kind] = _reader(kind)
    return f"{kind.__name__}({','.join(_texts(read(value)))})"


def _texts(values: Iterable[object]) -> list[str]:
    return [repr(one) if type(one) in _PLAIN else _text(one) for one in values]


def _reader(kind: type) -> Callable[[object], Iterable[object]]:
    names = [field.name for field in dataclasses.fields(kind) if field.compare]
    if len(names) > 1:
        return attrgetter(*names)
    return lambda value: [getattr(value, name) for name in names]
