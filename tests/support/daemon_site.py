"""A daemon on a throw-away host, the recorded documents that it gets, and what independent tools then see."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.support import lab
from tests.support.daemon_lab import Daemon
from tests.support.filter_tools import saved
from tests.support.recorded_documents import document
from tests.support.waiting import wait_for

RECORDED = document("b2_dvr_snat_node_with_vms-compute1")
ROUTER = RECORDED["router"]["id"]
QROUTER, SNAT = f"qrouter-{ROUTER}", f"snat-{ROUTER}"
EXTERNAL = RECORDED["router"]["gw_port"]["network_id"]
FIP = f"fip-{EXTERNAL}"
TENANT_BRIDGE = f"brq{RECORDED['router']['_interfaces'][0]['network_id'][:11]}"
EXTERNAL_BRIDGE = f"brq{EXTERNAL[:11]}"
FLOATING = "203.0.113.183"
PORTS = RECORDED["ports_by_subnet"][RECORDED["router"]["_interfaces"][0]["subnets"][0]["id"]]
MACS = {port["fixed_ips"][0]["ip_address"]: port["mac_address"] for port in PORTS}
VM_IP, OTHER_VM_IP = "10.1.0.112", "10.1.0.16"
UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")


class Site:
    """A host with the daemon on it."""

    def __init__(self, base: Path) -> None:
        self.daemon = Daemon(
            base,
            DEFAULT={"host": "compute1", "agent_mode": "dvr_snat"},
            dvr_agent={"audit_interval": 1},
            directory={"rescan_interval": 1},
        )

    def write(self, document: Any, name: str = "one") -> Path:
        path = self.daemon.routers / f"{name}.json"
        path.with_suffix(".new").write_text(json.dumps(document))
        path.with_suffix(".new").rename(path)
        return path

    def state(self, router_id: str = ROUTER) -> str | None:
        code, body = self.daemon.ask(f"/routers/{router_id}")
        return str(body["state"]) if code == 200 else None

    def audited(self) -> None:
        """Wait until an audit that began after now is over."""
        audits: set[str | None] = set()

        def seen() -> bool:
            audits.add(self.daemon.status()["last_audit"])
            return len(audits) == 3

        wait_for(seen)


def namespaces() -> set[str]:
    return {line.split()[0] for line in lab.run("ip", "netns", "list").splitlines()}


def snapshot() -> dict[str, object]:
    """Everything that matters in all namespaces, as independent tools see it."""
    state: dict[str, object] = {}
    for name in sorted(namespaces()):
        links = lab.ip_json("address", "show", netns=name)
        state[name] = {
            "links": {
                link["ifname"]: (link["address"], link["mtu"], sorted(_static(link["addr_info"]))) for link in links
            },
            "routes": sorted(
                line.replace(" linkdown", "")  # the kernel notes the carrier of a new device a moment later
                for family in ("-4", "-6")
                for line in lab.run("ip", family, "-n", name, "route", "show", "table", "all").splitlines()
                if "proto kernel" not in line
            ),
            "rules": lab.run("ip", "-n", name, "rule").splitlines(),
            "neighbours": sorted(lab.run("ip", "-n", name, "neigh", "show", "nud", "permanent").splitlines()),
            "tables": [line for line in saved(name).splitlines() if not line.startswith(("#", ":"))],
        }
    return state


def comparable(found: dict[str, object]) -> Any:
    """What two hosts must have in common; tables have the order in which they were made, sets have none."""

    def rules(lines: Iterable[str]) -> list[str]:
        if any(line.startswith("table ip") for line in lines):
            return sorted(one.strip(" \t}") for line in lines for one in re.split(r", |\{", line) if one.strip(" \t}"))
        table, named = "", []
        for line in lines:
            table = line if line.startswith("*") else table
            named += [(table, line)] if line.startswith("-A") else []
        return [" ".join(one) for one in sorted(named, key=lambda one: one[0])]

    states: Any = found
    return {name: {**state, "tables": rules(state["tables"])} for name, state in states.items()}


def _static(addresses: list[dict[str, Any]]) -> list[str]:
    return [f"{one['local']}/{one['prefixlen']}" for one in addresses if one.get("scope") != "link"]


def neighbour_router(number: int = 0) -> Any:
    """Another router on the same external network: same document, other ids, addresses and MACs."""
    text = json.dumps(RECORDED)
    shared = {EXTERNAL, RECORDED["router"]["_floatingip_agent_interfaces"][0]["id"]}
    shared |= {subnet["id"] for subnet in RECORDED["router"]["gw_port"]["subnets"]}
    for old in set(UUID.findall(text)) - shared:
        text = text.replace(old, str(uuid.uuid5(uuid.NAMESPACE_OID, f"{number} {old}")))
    text = text.replace("10.1.0.", f"10.2.{number}.").replace(FLOATING, f"198.51.{number}.1")
    gateway_ip = RECORDED["router"]["gw_port"]["fixed_ips"][0]["ip_address"]
    document = json.loads(text.replace(gateway_ip, f"203.0.113.{number + 20}"))
    router = document["router"]
    for index, port in enumerate([router["gw_port"], *router["_interfaces"], *router["_snat_router_interfaces"]]):
        port["mac_address"] = f"fa:16:3e:77:{number:02x}:{index:02x}"
    return document


def with_vms(site: Site, host: lab.Host) -> None:
    """Two VMs on the tenant network and a host on the external one."""
    host.bridge(TENANT_BRIDGE)
    host.bridge(EXTERNAL_BRIDGE)
    host.vm("vm", TENANT_BRIDGE, f"{VM_IP}/24", "10.1.0.1", MACS[VM_IP], mtu=1450)
    host.vm("vm2", TENANT_BRIDGE, f"{OTHER_VM_IP}/24", "10.1.0.1", MACS[OTHER_VM_IP], mtu=1450)
    host.vm("internet", EXTERNAL_BRIDGE, "203.0.113.1/24")


DUAL = document("h_dual_stack-compute1")
DUAL_ID = DUAL["router"]["id"]
