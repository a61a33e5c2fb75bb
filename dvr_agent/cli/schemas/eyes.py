"""Schemas of the verbs that explain: history, trace."""

from __future__ import annotations

from dvr_agent.cli.schemas.parts import (
    COUNT,
    NUMBER,
    TEXT,
    UUID,
    described,
    list_of,
    obj,
    one_of,
    or_null,
)
from dvr_agent.cli.schemas.plans import NAMESPACE

HISTORY = obj(
    {
        "seq": COUNT,
        "time": described(NUMBER, "seconds since the epoch"),
        "router": or_null(UUID),
        "name": TEXT,
        "job": one_of("start", "update", "removal", "resync", "retry", "drift", "sweep", "bridges"),
        "request_id": TEXT,
        "namespaces": list_of(NAMESPACE),
        "milliseconds": or_null(NUMBER),
        "state": TEXT,
        "reason": TEXT,
    },
    {
        "by": list_of(obj({"text": TEXT, "pid": or_null(COUNT), "program": or_null(TEXT), "protocol": or_null(TEXT)})),
        "vrrp": one_of("master", "backup"),
    },
)
_PACKET = obj({"src": TEXT, "dst": TEXT, "protocol": COUNT, "sport": COUNT, "dport": COUNT})
_HOP = obj(
    {
        "namespace": described(TEXT, "empty: the host's own"),
        "where": TEXT,
        "text": TEXT,
        "device": or_null(TEXT),
        "mark": COUNT,
        "before": _PACKET,
        "after": _PACKET,
        "live": {"enum": [None, "confirmed", "not seen", "differs"]},
    }
)
_WAY = obj(
    {
        "outcome": one_of("delivered", "leaves", "dropped", "unknown"),
        "reason": TEXT,
        "at": or_null(obj({"namespace": TEXT, "device": or_null(TEXT)})),
        "packet": _PACKET,
        "hops": list_of(_HOP),
        "notes": list_of(TEXT),
        "others": described(COUNT, "ways that are as likely"),
    }
)
TRACE = obj(
    {
        "packet": _PACKET,
        "start": obj({"namespace": TEXT, "device": or_null(TEXT)}),
        "way": _WAY,
        "reply": or_null(_WAY),
        "divergence": described(or_null(TEXT), "null without --live, empty if nothing contradicts"),
    }
)
