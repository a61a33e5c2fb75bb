"""What a network namespace holds, read with ``ip -j`` and /proc/sys: a second opinion on the code under test.

Types and parsers here share nothing with ``dvr_agent``.  The same parsers condense the recordings of the reference
agent (``tests/data/make_kernel_state.py``) and read the kernel, so both sides of the comparison have one shape.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

from tests.support import lab
from tests.support.filter_tools import rule_lines

BUILT_IN_RULES = (0, 32766, 32767)
NUMBERED_TABLES = {"main": 254, "default": 253, "local": 255}
NAMESPACE_SYSCTLS = (
    "net.ipv4.ip_forward",
    "net.ipv4.ip_nonlocal_bind",
    "net.ipv4.conf.all.arp_ignore",
    "net.ipv4.conf.all.arp_announce",
    "net.ipv4.conf.all.send_redirects",
    "net.ipv6.conf.all.forwarding",
    "net.netfilter.nf_conntrack_tcp_be_liberal",
    "net.netfilter.nf_conntrack_tcp_loose",
)
"""Those that the dataplane contract names, whether it wants them set in this kind of namespace or not."""
DEVICE_SYSCTLS = {
    "qr-": "net.ipv4.conf.{}.send_redirects",
    "fg-": "net.ipv4.conf.{}.proxy_arp",
    "qg-": "net.ipv6.conf.{}.accept_ra",
}


class Link(NamedTuple):
    name: str
    mac: str
    mtu: int
    kind: str
    up: bool


class Address(NamedTuple):
    device: str
    cidr: str


class Route(NamedTuple):
    table: int
    dst: str
    hops: tuple[str, ...]
    """``via ADDRESS dev NAME [onlink]``, sorted."""
    protocol: str


class Rule(NamedTuple):
    priority: int
    src: str
    iif: str
    table: int


class Neighbour(NamedTuple):
    dst: str
    device: str
    mac: str


class Sysctl(NamedTuple):
    key: str
    value: str


class ProxyNeighbour(NamedTuple):
    dst: str
    device: str


@dataclass(frozen=True)
class View:
    """One namespace.  ``filter`` are the facts of :func:`filter_facts`; ``link_local`` the kernel's own addresses."""

    links: frozenset[Link] = frozenset()
    addresses: frozenset[Address] = frozenset()
    link_local: frozenset[Address] = frozenset()
    routes: frozenset[Route] = frozenset()
    rules: frozenset[Rule] = frozenset()
    neighbours: frozenset[Neighbour] = frozenset()
    sysctls: frozenset[Sysctl] = frozenset()
    filter: frozenset[str] = frozenset()
    proxies: frozenset[ProxyNeighbour] = frozenset()


def read(namespace: str) -> View:
    """The namespace as the kernel has it now."""
    lines, lines6 = rule_lines(namespace)
    with lab.entered(namespace):
        links = _json("ip", "-d", "-j", "addr")
        names = {link["ifname"] for link in links}
        return View(
            **parse_links(links),
            routes=parse_routes(_json("ip", "-j", "-4", "route", "show", "table", "all"))
            | parse_routes(_json("ip", "-j", "-6", "route", "show", "table", "all")),
            rules=parse_rules(_json("ip", "-j", "-4", "rule")) | parse_rules(_json("ip", "-j", "-6", "rule")),
            neighbours=parse_neighbours(_json("ip", "-j", "neigh", "show", "nud", "permanent")),
            sysctls=frozenset(Sysctl(key, sysctl(key)) for key in wanted_sysctls(names)),
            filter=filter_facts(lines) | filter_facts(lines6, "IPv6: "),
            proxies=parse_proxies(_json("ip", "-j", "-6", "neigh", "show", "proxy")),
        )


def sysctl(key: str) -> str:
    """A parameter of the namespace that the calling thread is in; ``absent`` if the kernel does not have it."""
    path = Path("/proc/sys") / key.replace(".", "/")
    return path.read_text().strip() if path.exists() else "absent"


def wanted_sysctls(devices: Iterable[str]) -> list[str]:
    """Keys that are compared in a namespace with these devices."""
    found = list(NAMESPACE_SYSCTLS)
    for device in sorted(devices):
        for prefix, template in DEVICE_SYSCTLS.items():
            if device.startswith(prefix):
                found.append(template.format(device))
    return found


def parse_links(links: Iterable[dict[str, Any]]) -> dict[str, frozenset[Any]]:
    """``ip -d -j addr`` → links, addresses and link-local addresses, without ``lo``."""
    found_links: set[Link] = set()
    addresses: set[Address] = set()
    local: set[Address] = set()
    for link in links:
        name = link["ifname"]
        if name == "lo":
            continue
        kind = link.get("linkinfo", {}).get("info_kind", "")
        found_links.add(Link(name, link["address"], link["mtu"], kind, "UP" in link["flags"]))
        for item in link["addr_info"]:
            address = Address(name, f"{item['local']}/{item['prefixlen']}")
            (local if item["local"].startswith("fe80:") else addresses).add(address)
    return {"links": frozenset(found_links), "addresses": frozenset(addresses), "link_local": frozenset(local)}


def parse_routes(routes: Iterable[dict[str, Any]]) -> frozenset[Route]:
    """Unicast routes; not the local, broadcast, multicast and anycast ones, nor those of link-local prefixes.

    ``protocol`` is ``boot`` where ip leaves it out.
    """
    found = set()
    for route in routes:
        if route.get("type", "unicast") != "unicast" or route["dst"] in ("fe80::/64", "ff00::/8"):
            continue
        hops = tuple(sorted(_hop(hop) for hop in route.get("nexthops", [route])))
        table = _table(route.get("table", "main"))
        dst = route["dst"]
        if dst == "default":
            dst = "::/0" if any(":" in hop.split(" dev ")[0] for hop in hops) else "0.0.0.0/0"
        found.add(Route(table, dst, hops, route.get("protocol", "boot")))
    return frozenset(found)


def parse_rules(rules: Iterable[dict[str, Any]]) -> frozenset[Rule]:
    """Policy rules without the three built-in ones; selectors that ours never have make the source unmistakable."""
    found = set()
    for rule in rules:
        if rule["priority"] in BUILT_IN_RULES:
            continue
        src = rule["src"] + (f"/{rule['srclen']}" if "srclen" in rule else "")
        if "fwmark" in rule:
            src += f" fwmark {rule['fwmark']}"
        if "suppress_prefixlen" in rule:
            src += f" suppress_prefixlength {rule['suppress_prefixlen']}"
        found.add(Rule(rule["priority"], src, rule.get("iif", ""), _table(rule["table"])))
    return frozenset(found)


def parse_neighbours(neighbours: Iterable[dict[str, Any]]) -> frozenset[Neighbour]:
    """Permanent entries."""
    return frozenset(
        Neighbour(item["dst"], item["dev"], item["lladdr"])
        for item in neighbours
        if "PERMANENT" in item["state"] and "lladdr" in item
    )


def parse_proxies(proxies: Iterable[dict[str, Any]]) -> frozenset[ProxyNeighbour]:
    """Proxied neighbours."""
    return frozenset(ProxyNeighbour(item["dst"], item["dev"]) for item in proxies)


_WORD = {
    "dst": re.compile(r"(?<!\S)-d (\S+)"),
    "src": re.compile(r"(?<!\S)-s (\S+)"),
    "iif": re.compile(r"(?<!\S)-i (\S+)"),
    "oif": re.compile(r"(?<!\S)-o (\S+)"),
    "ports": re.compile(r"(?<!\S)-p (\S+ -m \S+ --dport \S+)"),
    "dnat": re.compile(r"-j DNAT --to-destination (\S+)"),
    "snat": re.compile(r"-j SNAT --to-source (\S+)"),
    "mark": re.compile(r"-j MARK --set-x?mark (\S+)"),
    "helper": re.compile(r"-p (\S+) .*?--dport (\d+) -j CT --helper (\S+)"),
    "open": re.compile(r"(?<!\S)-d (\S+) -i (qg-\S+) -j ACCEPT"),
    "closed": re.compile(r"(?<!\S)-d (\S+) -i (qg-\S+) -j (?:DROP|neutron-l3-agent-NDP)"),
    "drop": re.compile(r"-m mark ! --mark (\S+) .*?-j DROP"),
}


def filter_facts(lines: Iterable[str], prefix: str = "") -> frozenset[str]:
    """The NAT and mark rules of iptables-save as facts, whatever chain they stand in and in which order.

    Only what changes or drops packets: which address becomes which, which device gives and demands which scope mark.
    What the rules do together is for ``tests/packets`` to say.
    """
    facts: set[str] = set()
    for line in lines:
        word = {name: found.group(1) for name, regex in _WORD.items() if (found := regex.search(line))}
        if "dnat" in word and "dst" in word:
            ports = f" {word['ports']}" if "ports" in word else ""
            facts.add(f"destination {word['dst']}{ports} becomes {word['dnat']}")
        elif "snat" in word and "src" in word:
            facts.add(f"source {word['src']} becomes {word['snat']}")
        elif "snat" in word and "oif" in word and "-m mark" not in line:
            facts.add(f"source leaving {word['oif']} becomes {word['snat']}")
        elif "snat" in word and "ctstate DNAT" in line:
            facts.add(f"source of redirected traffic becomes {word['snat']}")
        elif "mark" in word and "iif" in word:
            facts.add(f"entering {word['iif']}{' to ' + word['dst'] if 'dst' in word else ''} marks {word['mark']}")
        elif "drop" in word and "oif" in word:
            facts.add(f"leaving {word['oif']} needs mark {word['drop']}")
        elif found := _WORD["helper"].search(line):
            facts.add(f"helper {found[3]} reads {found[1]} port {found[2]}")
        elif found := _WORD["open"].search(line):
            facts.add(f"entering {found[2]} to {found[1]} is accepted")
        elif found := _WORD["closed"].search(line):
            facts.add(f"entering {found[2]} to {found[1]} is dropped")
        elif "--notrack" in line:
            facts.add("nothing is tracked")
    return frozenset(prefix + fact for fact in facts)


def to_json(view: View) -> dict[str, list[Any]]:
    """Lists sorted, so that files stay the same from run to run."""
    return {field.name: sorted(getattr(view, field.name)) for field in fields(View)}


def from_json(data: dict[str, list[Any]]) -> View:
    """The other way round."""
    kinds: dict[str, Any] = {
        "links": Link,
        "addresses": Address,
        "link_local": Address,
        "rules": Rule,
        "neighbours": Neighbour,
        "sysctls": Sysctl,
    }
    made: dict[str, frozenset[Any]] = {
        name: frozenset(kind(*values) for values in data[name]) for name, kind in kinds.items()
    }
    routes = frozenset(Route(table, dst, tuple(hops), protocol) for table, dst, hops, protocol in data["routes"])
    proxies = frozenset(ProxyNeighbour(*values) for values in data.get("proxies", []))  # older files lack them
    return View(**made, routes=routes, filter=frozenset(data["filter"]), proxies=proxies)


def _json(*words: str) -> Any:
    return json.loads(lab.run(*words) or "[]")


def _table(name: str) -> int:
    return NUMBERED_TABLES[name] if name in NUMBERED_TABLES else int(name)


def _hop(hop: dict[str, Any]) -> str:
    via = hop.get("gateway") or hop.get("via", {}).get("host", "")
    onlink = " onlink" if "onlink" in hop.get("flags", []) else ""
    return (f"via {via} " if via else "") + f"dev {hop['dev']}{onlink}"
