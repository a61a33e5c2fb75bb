"""The bench's rules of neutron-l3-agent are those of the recordings."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest

from bench.packets import reference
from tests.support.recorded_documents import DATA

Chains = dict[tuple[str, str], list[str]]


def chains(text: str) -> Chains:
    """Table and chain → rules, in order; without chains that have none and lead nowhere."""
    found: Chains = {}
    table = ""
    for line in text.splitlines():
        if line.startswith("*"):
            table = line[1:]
        elif line.startswith("-A"):
            _, chain, rule = line.split(" ", 2)
            found.setdefault((table, chain), []).append(rule)
    return found


def devices(text: str, prefix: str) -> list[str]:
    return list(dict.fromkeys(re.findall(rf"-i ({prefix}-\S{{8,}})", text)))


def qrouter(recorded: str) -> str:
    fips = re.findall(r"-d (\S+)/32 -i \S+ -j DNAT --to-destination (\S+)", recorded)
    return reference.qrouter(devices(recorded, "qr"), devices(recorded, "rfp")[0], fips)


def snat(recorded: str) -> str:
    gateway = re.findall(r"-o \S+ -j SNAT --to-source (\S+)", recorded)[0]
    return reference.snat(devices(recorded, "sg"), devices(recorded, "qg")[0], gateway)


@pytest.mark.parametrize(
    ("recording", "kind", "make"),
    [
        ("b2_dvr_snat_node_with_vms-compute1", "qrouter", qrouter),
        ("p_multi_fip-compute2", "qrouter", qrouter),
        ("j_two_subnets_two_networks-compute1", "snat", snat),
        ("b2_dvr_snat_node_with_vms-compute1", "snat", snat),
        ("p_multi_fip-compute2", "fip", lambda _recorded: reference.fip_namespace()),
    ],
)
def test_rules_of_neutron_l3_agent_are_the_recorded_ones(recording: str, kind: str, make: Callable[[str], str]) -> None:
    namespaces = json.loads((DATA / "packet_filter" / f"{recording}.json").read_text())
    recorded = next(rules["4"] for name, rules in namespaces.items() if name.startswith(f"{kind}-"))
    assert chains(make(recorded)) == chains(recorded)
