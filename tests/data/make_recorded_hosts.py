"""Copies what neutron-l3-agent left on its hosts into ``recorded_hosts/<scenario>-<host>.json``, as commands.

    python -m tests.data.make_recorded_hosts RECORDINGS SCENARIO-HOST…

RECORDINGS is the folder that :mod:`tests.data.make_kernel_state` reads.  Each file holds, by namespace, the devices,
lines of ``ip -batch``, kernel parameters and lines of ``tc`` that make the recorded namespace, and the agent's files
below ``state_path``.  The packet filter is in ``packet_filter``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.data.make_kernel_state import dumps, sections

OUTPUT = Path(__file__).parent / "recorded_hosts"
DEFAULTS = {
    **dict.fromkeys(("arp_announce", "arp_ignore", "ip_nonlocal_bind", "addr_gen_mode", "proxy_arp", "proxy_ndp"), "0"),
    **dict.fromkeys(("accept_ra", "send_redirects", "nf_conntrack_tcp_loose"), "1"),
    **dict.fromkeys(("forwarding", "ip_forward", "nf_conntrack_tcp_be_liberal"), ""),
}
"""Last word of each parameter that either agent sets → value in a new namespace, which needs no line."""
FILES = ("ha_confs/", "ra/", "fip-")
QDISCS, FILTERS = "tc qdisc (pfifo_fast left out)", "tc filters (emulated ones: this kernel has no act_police)"
EMULATED = "police"
"""Begins what a filter had that the recorded kernel has no module for."""


def host_of(folder: Path) -> dict[str, dict[str, list[Any]]]:
    """Everything of one recorded host."""
    namespaces = (path for path in sorted(folder.glob("*.txt")) if not path.name.startswith("_"))
    found: dict[str, dict[str, list[Any]]] = {path.stem: namespace(sections(path.read_text())) for path in namespaces}
    found["files"] = {"state_path": [*files((folder / "_files.txt").read_text())]}
    return found


def namespace(parts: dict[str, str]) -> dict[str, list[Any]]:
    links = [link for link in json.loads(parts["ip -d -j addr"]) if link["ifname"] != "lo"]
    routes = json.loads(parts["ip -j route show table all"]) + json.loads(parts["ip -j -6 route show table all"])
    neighbours = json.loads(parts["ip -j neigh show nud all"]) + json.loads(parts["ip -j neigh show proxy"])
    return {
        "links": [[one["ifname"], one["address"], one["mtu"], one["linkinfo"]["info_kind"]] for one in links],
        "ip": [
            *(line for link in links for line in addresses(link)),
            *dict.fromkeys(line for one in routes for line in route(one)),  # the first list may have both families
            *(line for six in ("", "-6 ") for one in json.loads(parts[f"ip -j {six}rule"]) for line in rule(six, one)),
            *(line for one in neighbours for line in neighbour(one)),
        ],
        "sysctl": [line for line in parts["sysctl"].splitlines() if is_set(*line.split(" = "))],
        "tc": [*limits(parts.get(QDISCS, ""), parts.get(FILTERS, ""))],
    }


def addresses(link: dict[str, Any]) -> Iterator[str]:
    for one in link["addr_info"]:
        broadcast = f" broadcast {one['broadcast']}" if "broadcast" in one else ""
        yield f"addr replace {one['local']}/{one['prefixlen']} dev {link['ifname']} scope {one['scope']}{broadcast}"


def is_set(key: str, value: str) -> bool:
    last = key.rpartition(".")[2]
    return DEFAULTS.get(last, value) != value and ".lo." not in key and (key[4:13], last) != ("ipv4.conf", "forwarding")


def route(one: dict[str, Any]) -> Iterator[str]:
    if one.get("type", "unicast") != "unicast" or one.get("protocol") == "kernel":
        return
    is_ipv6 = any(":" in hop.get("gateway", one["dst"]) for hop in one.get("nexthops", [one]))
    words = [f"-{'6' if is_ipv6 else '4'} route add {one['dst']}"]
    words += [
        f"{word} {one[key]}"
        for word, key in (("table", "table"), ("proto", "protocol"), ("metric", "metric"))
        if key in one
    ]
    words += [f"scope {one['scope']}" for _ in (1,) if "scope" in one]
    for hop in one.get("nexthops", [one]):
        words += ["nexthop"] if "nexthops" in one else []
        words += [f"via {hop['gateway']}"] if "gateway" in hop else []
        words += [f"dev {hop['dev']}", *(["onlink"] if "onlink" in hop["flags"] else [])]
    yield " ".join(words)


def rule(six: str, one: dict[str, Any]) -> Iterator[str]:
    if one["priority"] in (0, 32766, 32767):
        return
    source = one["src"] + (f"/{one['srclen']}" if "srclen" in one else "")
    device = f" iif {one['iif']}" if "iif" in one else ""
    yield f"{six}rule add from {source}{device} lookup {one['table']} priority {one['priority']}"


def neighbour(one: dict[str, Any]) -> Iterator[str]:
    if "lladdr" in one and "PERMANENT" in one["state"]:
        yield f"neigh replace {one['dst']} lladdr {one['lladdr']} dev {one['dev']} nud permanent"
    elif "state" not in one:
        yield f"neigh add proxy {one['dst']} dev {one['dev']}"


def limits(qdiscs: str, filters: str) -> Iterator[str]:
    """Filters without their police action: neutron-l3-agent's are recognised by the rest."""
    for line in qdiscs.splitlines():
        device, _, words = line.partition(": qdisc ")
        if words.startswith("htb"):
            yield f"qdisc add dev {device} root handle {words.split()[1]} htb default 10"
        elif words.startswith("ingress"):
            yield f"qdisc add dev {device} ingress"
    for line in filters.splitlines():
        device, parent, rest = line.split(" ", 2)
        match = rest.partition(" u32 ")[2].partition(f" {EMULATED}")[0]
        yield f"filter add dev {device} parent {parent.partition(':')[0]}: protocol ip prio 1 u32 {match} flowid :1"


def files(text: str) -> Iterator[list[str]]:
    for name, content in sections(text).items():
        path, _, kind = name.removeprefix("./").partition(" (")
        if path.startswith(FILES) and kind[:3].isdigit() and ".pid" not in path and not path.endswith(".log"):
            is_state = path.endswith("/state")  # has no end of line
            yield [path, kind[:3], content if is_state or not content else content.strip("\n") + "\n"]


def main() -> None:
    OUTPUT.mkdir(exist_ok=True)
    for stem in sys.argv[2:]:
        scenario, host = stem.rsplit("-", 1)
        (OUTPUT / f"{stem}.json").write_text(dumps(host_of(Path(sys.argv[1]) / scenario / host)))


if __name__ == "__main__":
    main()
