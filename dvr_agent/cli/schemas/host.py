"""Schemas of ``show``: what is on the host."""

from __future__ import annotations

from dvr_agent.cli.schemas.eyes import GRAPH
from dvr_agent.cli.schemas.parts import COUNT, FLAG, TEXT, UUID, Schema, described, list_of, map_of, obj, or_null
from dvr_agent.cli.schemas.plans import NAMESPACE

_PORT_KEYS = {
    "device": TEXT,
    "port": UUID,
    "network": UUID,
    "mac": TEXT,
    "mtu": or_null(COUNT),
    "addresses": list_of(TEXT),
}
_BELONGS = described(TEXT, "here, central, host X, port forwardings, left out, or no document")
ROUTERS = obj(
    {
        "routers": list_of(
            obj(
                {
                    "id": UUID,
                    "name": TEXT,
                    "document": TEXT,
                    "namespaces": list_of(TEXT),
                    "floating_ips": COUNT,
                    "note": TEXT,
                }
            )
        )
    }
)
ROUTER = obj(
    {
        "id": UUID,
        "name": TEXT,
        "document": TEXT,
        "note": TEXT,
        "gateway": or_null(obj({**_PORT_KEYS, "host": TEXT, "enable_snat": FLAG})),
        "interfaces": list_of(obj(_PORT_KEYS)),
        "floating_ips": list_of(obj({"floating_ip": TEXT, "fixed_ip": TEXT, "belongs": _BELONGS})),
        "routes": list_of(TEXT),
        "omitted": list_of(TEXT),
        "namespaces": list_of(
            obj({"name": TEXT, "objects": list_of(TEXT), "rules": described(map_of(COUNT), "table: number of rules")})
        ),
        "topology": GRAPH,
    }
)
NAMESPACES = obj(
    {
        "namespaces": list_of(
            obj({"name": TEXT, "of": described(TEXT, "router or network"), "devices": list_of(TEXT), "stale": FLAG})
        )
    }
)
FLOATING_IPS = obj(
    {
        "floating_ips": list_of(
            obj(
                {
                    "floating_ip": TEXT,
                    "fixed_ip": TEXT,
                    "router": UUID,
                    "belongs": _BELONGS,
                    "in_kernel": described(list_of(TEXT), "namespaces that translate it"),
                    "state": described(TEXT, "complete, incomplete, standby, elsewhere, stale, not built, left out, …"),
                    "complete": described(or_null(FLAG), "null: this host need not have it, or it is not known"),
                    "namespaces": described(list_of(NAMESPACE), "what plan would change of it"),
                    "omitted": list_of(TEXT),
                }
            )
        )
    }
)
_RULES = obj({"namespace": TEXT, "rules": described(list_of(TEXT), "in the syntax of iptables-save")})
RULES: Schema = {"anyOf": [_RULES, obj({"router": UUID, "namespaces": list_of(_RULES)})]}
