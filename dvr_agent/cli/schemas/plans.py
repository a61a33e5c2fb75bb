"""Schemas of the verbs that plan or make changes: plan, apply, cleanup, handover."""

from __future__ import annotations

from dvr_agent.cli.schemas.parts import COUNT, FLAG, NUMBER, TEXT, described, list_of, obj, one_of, or_null

_SIGN = one_of("+", "-", "~")
COUNTS = obj({"add": COUNT, "remove": COUNT, "change": COUNT})
CHANGE = obj(
    {
        "action": _SIGN,
        "kind": described(TEXT, "link, address, route, rule, neighbour, sysctl, limit, policer, iptables, nftables, …"),
        "text": described(TEXT, "the object in the syntax of ip, sysctl, iptables-save or nft"),
        "was": described(or_null(TEXT), "the old value of a changed object"),
    }
)
NAMESPACE = obj(
    {
        "name": described(TEXT, "a namespace, (host), or a state file"),
        "action": described(_SIGN, "of the namespace itself"),
        "changes": list_of(CHANGE),
    }
)
_PLAN_KEYS = {
    "subject": described(TEXT, "router <uuid>, stale objects, or everything of dvr-agent"),
    "name": described(TEXT, "name of the router, may be empty"),
    "in_sync": FLAG,
    "counts": COUNTS,
    "namespaces": list_of(NAMESPACE),
    "shared": described(list_of(TEXT), "namespaces of which an earlier plan of this output shows the changes"),
    "warnings": list_of(TEXT),
}
_SOMETIMES = {
    "held": described(TEXT, "what VRRP adds and removes; HA routers only"),
    "omitted": list_of(TEXT),
    "outdated": described(TEXT, "why the router's newest document cannot be used"),
    "milliseconds": NUMBER,
    "announcements": COUNT,
    "conntrack_deleted": COUNT,
}
PLANS = obj(
    {
        "in_sync": FLAG,
        "total": COUNTS,
        "plans": list_of(obj(_PLAN_KEYS, _SOMETIMES)),
        "skipped": list_of(obj({"subject": TEXT, "reason": TEXT})),
        "warnings": list_of(TEXT),
        "errors": list_of(obj({"subject": TEXT, "error": TEXT})),
    }
)
CLEANUP = obj({"done": FLAG, "bridges": list_of(TEXT), "files": list_of(TEXT), **_PLAN_KEYS}, _SOMETIMES)
HANDOVER = obj(
    {
        "done": FLAG,
        "namespaces": list_of(obj({"name": TEXT, "removed": list_of(TEXT), "waits_for": list_of(TEXT)})),
        "state_files": one_of("right", "corrected", "would be corrected"),
    }
)
