"""Routers as the topology sees them: observed states made by hand."""

from __future__ import annotations

import json

from dvr_agent.model.parse import parse_document
from dvr_agent.model.router import Router
from dvr_agent.state.address import Address
from dvr_agent.state.filter import Dnat, DportMatch, FilterRule
from dvr_agent.state.filter_runs import make_table
from dvr_agent.state.link import Link
from dvr_agent.state.namespace import NamespaceState
from dvr_agent.state.ownership import Ownership
from dvr_agent.state.route import DEFAULT_V4, Hop, make_route
from dvr_agent.state.wiring import Wire, Wiring
from dvr_agent.topology.build import RouterParts
from tests.support.recorded_documents import DOCUMENTS

DOCUMENT = DOCUMENTS / "b2_dvr_snat_node_with_vms-compute1.json"
ROUTER_ID = "a3d9771d-a5b3-4f1e-85d3-418205981830"
EXTERNAL, INTERNAL = "8a5d1441-a465-459b-ab0e-588eae4e32cb", "8328c29f-72fa-4c12-99a7-506d8e043b5e"
QROUTER, SNAT, FIP = f"qrouter-{ROUTER_ID}", f"snat-{ROUTER_ID}", f"fip-{EXTERNAL}"
QR, RFP, FPR = "qr-7fb6853b-e0", "rfp-a3d9771d-a", "fpr-a3d9771d-a"
FG, SG, QG = "fg-8ff41de9-3e", "sg-0f7157bb-70", "qg-89f701c6-a3"
WIRING = Wiring(
    {
        "7fb6853b-e0": Wire("tap7fb6853b-e0", "brq8328c29f-72"),
        "8ff41de9-3e": Wire("tap8ff41de9-3e", "br-ex"),
    },
    {"br-ex": ("eth1",)},
)


def document(name: str = "edge") -> Router:
    text = DOCUMENT.read_text().replace('"r-b2"', json.dumps(name))
    return parse_document(text.encode(), "test", 1 << 20)


def link(name: str, up: bool = True) -> Link:
    return Link(name, "fa:16:3e:00:00:01", 1450, up)


def qrouter() -> NamespaceState:
    dnat = FilterRule(Dnat("10.1.0.112"), dst="203.0.113.183/32", iif=RFP)
    return NamespaceState(
        QROUTER,
        Ownership(),
        links=frozenset({link(QR), link(RFP)}),
        addresses=frozenset({Address(QR, "10.1.0.1/24"), Address(RFP, "169.254.102.214/31")}),
        routes=frozenset({make_route(DEFAULT_V4, 16, Hop("169.254.102.215", RFP))}),
        tables=(make_table(4, "nat", {"PREROUTING": (dnat,)}),),
    )


def fip() -> NamespaceState:
    routes = {
        make_route(DEFAULT_V4, 2852021975, Hop("203.0.113.1", FG)),
        make_route("203.0.113.183/32", 254, Hop("1.1.1.1", FPR)),
    }
    return NamespaceState(FIP, Ownership(), links=frozenset({link(FG), link(FPR, up=False)}), routes=frozenset(routes))


def snat() -> NamespaceState:
    forwarded = FilterRule(
        Dnat("10.1.0.5", (22, 22)), dst="203.0.113.50/32", protocol="tcp", matches=(DportMatch("tcp", 2222, 2222),)
    )
    return NamespaceState(
        SNAT,
        Ownership(),
        links=frozenset({link(SG)}),  # qg- is missing
        tables=(make_table(4, "nat", {"PREROUTING": (forwarded,)}),),
    )


def parts(name: str = "edge") -> RouterParts:
    return RouterParts(ROUTER_ID, document(name), [qrouter(), fip(), snat()])
