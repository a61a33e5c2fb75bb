"""Schemas of the verbs that explain: history, why, trace, capture, diag, web, topology."""

from __future__ import annotations

from dvr_agent.cli.schemas.parts import (
    COUNT,
    FLAG,
    NUMBER,
    TEXT,
    UUID,
    Schema,
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
        "job": one_of(
            *("start", "update", "removal", "resync", "retry", "drift", "sweep", "bridges"),
            *("dvrctl apply", "dvrctl cleanup", "dvrctl handover"),
        ),
        "request_id": TEXT,
        "namespaces": list_of(NAMESPACE),
        "state": TEXT,
        "reason": TEXT,
    },
    {
        "by": list_of(obj({"text": TEXT, "pid": or_null(COUNT), "program": or_null(TEXT), "protocol": or_null(TEXT)})),
        "milliseconds": NUMBER,
        "vrrp": one_of("master", "backup"),
    },
)
WHY = obj(
    {
        "subject": TEXT,
        "steps": list_of(
            obj(
                {
                    "step": TEXT,
                    "verdict": one_of("ok", "wrong", "unknown"),
                    "text": TEXT,
                    "object": described(TEXT, "as ip, iptables or nft prints it; may be empty"),
                    "cause": or_null(TEXT),
                }
            )
        ),
        "cause": described(or_null(TEXT), "the fault that the sentence explains, by its key in troubleshooting.md"),
        "sentence": TEXT,
        "advice": TEXT,
        "changes": described(
            list_of(HISTORY), "the newest of the subject, without a fault of the last hour; as in history"
        ),
    }
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
CAPTURE = obj(
    {
        "places": list_of(
            obj(
                {"namespace": TEXT, "device": TEXT, "title": TEXT, "filter": TEXT, "command": list_of(TEXT)},
                {"packets": COUNT, "dropped": COUNT, "error": TEXT},
            )
        )
    },
    {"subject": TEXT, "file": described(TEXT, "with --run")},
)
DIAG = obj({"file": TEXT, "bytes": COUNT, "members": list_of(obj({"name": TEXT, "error": TEXT, "seconds": NUMBER}))})
WEB: Schema = {
    "anyOf": [
        obj({"url": described(TEXT, "the address of the page, which has the token")}),
        obj({"listen": TEXT, "url": TEXT}),
    ]
}
WANTS_WEB = obj({"web": FLAG, "listen": or_null(TEXT)})
GRAPH = obj(
    {
        "title": TEXT,
        "nodes": list_of(
            obj(
                {
                    "id": TEXT,
                    "kind": one_of("namespace", "network", "outside"),
                    "name": TEXT,
                    "title": TEXT,
                    "router_id": TEXT,
                    "network_id": TEXT,
                    "bridge": TEXT,
                    "uplinks": list_of(TEXT),
                    "external": FLAG,
                    "devices": list_of(
                        obj(
                            {
                                "name": TEXT,
                                "mac": TEXT,
                                "mtu": COUNT,
                                "state": one_of("up", "down", "missing"),
                                "addresses": list_of(TEXT),
                                "outer": TEXT,
                            }
                        )
                    ),
                    "translations": list_of(obj({"floating_ip": TEXT, "fixed_ip": TEXT, "ports": TEXT})),
                    "routes": list_of(TEXT),
                }
            )
        ),
        "edges": list_of(
            obj(
                {
                    "kind": one_of("veth", "port", "gateway"),
                    "source": TEXT,
                    "target": TEXT,
                    "source_device": TEXT,
                    "target_device": TEXT,
                }
            )
        ),
        "floating_ips": list_of(
            obj({"router_id": TEXT, "floating_ip": TEXT, "fixed_ip": TEXT, "translated_in": list_of(TEXT)})
        ),
    }
)
TOPOLOGY = obj({"topology": GRAPH})
