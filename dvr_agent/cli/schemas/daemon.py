"""Schemas of what the running daemon says: status, one router, sync."""

from __future__ import annotations

from dvr_agent.cli.schemas.parts import (
    COUNT,
    FLAG,
    NUMBER,
    TEXT,
    TIME,
    UUID,
    Schema,
    described,
    list_of,
    map_of,
    obj,
    one_of,
    open_object,
    or_null,
)
from dvr_agent.cli.status_text import STATES

ROUTER = obj(
    {
        "id": UUID,
        "name": TEXT,
        "state": one_of(*STATES),
        "reason": TEXT,
        "vrrp": described(one_of("master", "backup", ""), "of HA routers in whose VRRP this host takes part"),
        "failures": described(COUNT, "failed tries in a row"),
        "next_retry": described(or_null(NUMBER), "seconds from now"),
        "last_change": or_null(TIME),
        "last_counts": map_of(COUNT),
        "last_seconds": described(or_null(NUMBER), "duration of the last job"),
        "queued": described(FLAG, "a job of the router waits or is at work"),
    },
    {"floating_ips": described(map_of(open_object()), "GET /routers/<id> only: id → state at the server")},
)
_SOURCE = {
    **open_object(
        {
            "source": one_of("directory", "neutron"),
            "state": one_of("starting", "ok", "failed"),
            "error": TEXT,
            "incomplete": TEXT,
            "documents": COUNT,
            "bad": list_of(obj({"name": TEXT, "error": TEXT})),
        }
    ),
}
_SOURCE["properties"] |= {
    "path": described(TEXT, "directory of the documents"),
    "asking": described(FLAG, "a question to neutron-server is open"),
    "server": open_object(),
    "bus": open_object(),
    "not_kept": TEXT,
}
STATUS = obj(
    {
        "version": TEXT,
        "host": TEXT,
        "mode": one_of("dvr", "dvr_snat", "dvr_no_external"),
        "pid": COUNT,
        "started": TIME,
        "state": one_of("starting", "degraded", "pending", "in sync"),
        "progress": described(TEXT, "resync: 12 of 500 routers; empty when no round is under way"),
        "last_sync": or_null(TIME),
        "last_audit": or_null(TIME),
        "next_audit": or_null(TIME),
        "queue_depth": COUNT,
        "working_on": or_null(obj({"job": TEXT, "seconds": NUMBER})),
        "guard": described(TEXT, "why the stale sweep was refused; empty if it was not"),
        "troubles": described(list_of(TEXT), "troubles of the host as a whole"),
        "fights": list_of(
            obj(
                {
                    "router": UUID,
                    "object": TEXT,
                    "repairs": COUNT,
                    "refused": FLAG,
                    "changed_by": TEXT,
                    "next_repair": NUMBER,
                }
            )
        ),
        "source": _SOURCE,
        "services": map_of(open_object({"routers": COUNT})),
        "counters": obj(
            {
                "jobs": COUNT,
                "failures": COUNT,
                "drift_repaired": COUNT,
                "latency_ms": obj({"p50": or_null(NUMBER), "max": or_null(NUMBER)}),
                "hub_lateness_ms": NUMBER,
                "hub_lateness_worst_ms": NUMBER,
                "events": or_null(COUNT),
                "writes": map_of(COUNT),
            }
        ),
        "states": described(map_of(COUNT), "state: number of routers"),
        "routers": list_of(ROUTER),
    }
)
UNREACHABLE = obj({"state": one_of("unreachable"), "error": TEXT})
WATCH: Schema = {"anyOf": [STATUS, UNREACHABLE]}
_GONE = obj({"id": UUID, "name": TEXT, "state": one_of("removed"), "reason": TEXT})
SYNC = obj(
    {
        "routers": list_of({"anyOf": [ROUTER, _GONE]}),
        "waiting": described(list_of(UUID), "routers that were not tried in time"),
        "state": described(TEXT, "of the daemon"),
    }
)
