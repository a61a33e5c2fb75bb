"""What a method has made, read back by independent tools, so that equal work is compared with equal work."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterable
from typing import Any

from dvr_agent.state.namespace import NamespaceState

Json = dict[str, Any]
_COUNTERS = re.compile(r" \[\d+:\d+\]$")
_OUTER = ("tap", "brq")


def picture(states: Iterable[NamespaceState]) -> Json:
    """The namespaces of these states, and the outer side of all ports, as text that can be compared.

    Left out is what differs by nature: indexes, generated MAC addresses of outer ends, what the kernel adds by itself.
    """
    parameters: dict[str, set[str]] = {}
    for state in states:
        parameters.setdefault(state.name, set()).update(sysctl.key for sysctl in state.sysctls)
    return {"host": _outer(), **{name: _namespace(name, sorted(keys)) for name, keys in parameters.items()}}


def differences(one: Json, other: Json) -> list[str]:
    """What is in one picture only, ``namespace kind: object``."""
    found = []
    for namespace in sorted(one.keys() | other.keys()):
        ours, theirs = one.get(namespace, {}), other.get(namespace, {})
        for kind in sorted(ours.keys() | theirs.keys()):
            left, right = ours.get(kind, []), theirs.get(kind, [])
            found += [f"{namespace} {kind}: {item}" for item in (*_without(left, right), *_without(right, left))]
    return found


def _without(items: list[str], others: list[str]) -> list[str]:
    return [item for item in items if item not in others]


def _namespace(name: str, keys: list[str]) -> Json:
    ip = ["ip", "-n", name, "-j"]
    links = json.loads(_run(*ip, "address", "show"))
    routes = json.loads(_run(*ip, "route", "show", "table", "all")) + json.loads(
        _run(*ip, "-6", "route", "show", "table", "all")
    )
    rules = json.loads(_run(*ip, "-4", "rule")) + json.loads(_run(*ip, "-6", "rule"))
    neighbours = json.loads(_run(*ip, "neighbour", "show", "nud", "permanent"))
    within = ["ip", "netns", "exec", name]
    return {
        "link": sorted(f"{link['ifname']} {link['address']} {link['mtu']} {'UP' in link['flags']}" for link in links),
        "address": sorted(_address(link["ifname"], found) for link in links for found in _global(link)),
        "route": sorted(_text(route, "flags") for route in routes if route.get("protocol") in ("static", "boot")),
        "rule": sorted(map(_text, rules)),
        "neighbour": sorted(map(_text, neighbours)),
        "sysctl": _run(*within, "sysctl", *(f"net/{key}" for key in keys)).splitlines(),
        "nft": _run(*within, "nft", "-s", "list", "ruleset").splitlines(),
        "iptables": _saved(_run(*within, "iptables-legacy-save")),
        "ip6tables": _saved(_run(*within, "ip6tables-legacy-save")),
    }


def _outer() -> Json:
    links = [link for link in json.loads(_run("ip", "-j", "link", "show")) if link["ifname"].startswith(_OUTER)]
    switches = [f"net/ipv6/conf/{link['ifname']}/disable_ipv6" for link in links]
    return {
        "link": sorted(
            f"{link['ifname']} {link['mtu']} {'UP' in link['flags']} {link.get('master')} {link.get('ifalias')}"
            for link in links
        ),
        "sysctl": sorted(_run("sysctl", *switches).splitlines()) if switches else [],
    }


def _global(link: Json) -> list[Json]:
    return [found for found in link["addr_info"] if found["family"] == "inet" or found["scope"] != "link"]


def _address(device: str, found: Json) -> str:
    return f"{device} {found['local']}/{found['prefixlen']} {found.get('broadcast')} {found['scope']}"


def _text(found: Json, *without: str) -> str:
    return json.dumps({key: value for key, value in found.items() if key not in without}, sort_keys=True)


def _saved(text: str) -> list[str]:
    """Without comments and counters, in the order of the rules."""
    return [_COUNTERS.sub("", line) for line in text.splitlines() if not line.startswith("#")]


def _run(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)} → {done.returncode}: {done.stderr.strip()}")
    return done.stdout or "[]"
