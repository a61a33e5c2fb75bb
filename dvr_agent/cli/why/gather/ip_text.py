"""Parses what ``ip`` and ``bridge`` print.  Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from dvr_agent.cli.why.facts import LinkFacts, NeighbourFacts, PolicyFacts, RouteFacts, RuleFacts

_ACTIONS = frozenset({"blackhole", "unreachable", "prohibit", "nop", "goto"})
_TYPES = frozenset(
    {"unicast", "local", "broadcast", "multicast", "anycast", "blackhole", "unreachable", "prohibit", "throw", "nat"}
)
_FLAGS = frozenset({"onlink", "linkdown", "dead", "pervasive", "offload", "not", "router", "proxy", "[detached]"})
"""Words without a value."""
_CLOSED = frozenset({"blocking", "disabled"})
"""States in which a bridge's port passes nothing."""


def parse_links(text: str) -> tuple[LinkFacts, ...]:
    """Parse ``ip -j -d link show``."""
    return tuple(_link(entry) for entry in json.loads(text or "[]") if entry.get("ifname"))


def _link(entry: dict[str, Any]) -> LinkFacts:
    flags = entry.get("flags") or []
    info = entry.get("linkinfo") or {}
    port = (info.get("info_slave_data") or {}) if info.get("info_slave_kind") == "bridge" else {}
    flags_of_port = {flag for flag in ("isolated", "locked") if port.get(flag) is True}
    return LinkFacts(
        entry["ifname"],
        entry.get("address", ""),
        int(entry.get("mtu", 0)),
        "UP" in flags,
        "LOWER_UP" in flags,
        entry.get("master", ""),
        info.get("info_kind", ""),
        frozenset(flags_of_port | ({str(port.get("state"))} & _CLOSED)),
    )


def parse_rules(text: str, family: int) -> Iterator[RuleFacts]:
    """Parse ``ip rule show``: ``32765:  from 10.0.0.5 lookup 16``."""
    for line in text.splitlines():
        number, _, rest = line.partition(":")
        if number.strip().isdigit():
            yield RuleFacts(family, int(number), _words(rest.split(), _ACTIONS), " ".join(line.split()))


def parse_routes(text: str, family: int) -> Iterator[RouteFacts]:
    """Parse ``ip route show table all``: ``blackhole default table 16``; lines of next hops are left out."""
    for line in text.splitlines():
        words = line.split()
        if not words or line[0].isspace():
            continue
        kind = words.pop(0) if words[0] in _TYPES else "unicast"
        if not words:
            continue
        values = _words(words[1:], frozenset())
        yield RouteFacts(family, kind, words[0], values.get("table", "main"), values, " ".join(line.split()))


def parse_neighbours(text: str) -> Iterator[NeighbourFacts]:
    """Parse ``ip neigh show``: ``10.0.0.5 dev qr-1 lladdr fa:16:3e:00:00:01 PERMANENT``."""
    for line in text.splitlines():
        words = line.split()
        if len(words) < 3:
            continue
        values = _words(words[1:-1], frozenset())
        yield NeighbourFacts(words[0], values.get("dev", ""), values.get("lladdr", ""), words[-1], " ".join(words))


def parse_fdb(text: str) -> dict[str, dict[str, tuple[str, ...]]]:
    """Parse ``bridge -j fdb show``: bridge → MAC address → ports at which it was learned."""
    found: dict[str, dict[str, list[str]]] = {}
    for entry in json.loads(text or "[]"):
        if entry.get("master") and entry.get("state") != "permanent" and entry.get("ifname"):
            found.setdefault(entry["master"], {}).setdefault(entry["mac"], []).append(entry["ifname"])
    return {
        bridge: {mac: tuple(dict.fromkeys(ports)) for mac, ports in learned.items()}
        for bridge, learned in found.items()
    }


def parse_policies(policies: str, states: str) -> Iterator[PolicyFacts]:
    """Parse ``ip xfrm policy`` and ``ip xfrm state``: the policies that drop what they select."""
    known = [_association(words) for words in _blocks(states)]
    for words in _blocks(policies):
        values = _words(words, frozenset())
        if words[0] != "src" or values.get("dir") not in ("out", "fwd", "in"):
            continue  # of a socket
        templates = [_association(words[at:]) for at, word in enumerate(words) if word == "tmpl"]
        lacking = next((one for one in templates if not any(_serves(state, one) for state in known)), None)
        if values.get("action") == "block":
            why = "it blocks them"
        elif lacking is not None and "level use" not in " ".join(words):
            why = f"it has no security association from {lacking['src']} to {lacking['dst']}"
        else:
            continue
        yield PolicyFacts(words[1], words[3], values["dir"], why, " ".join(words))


def _blocks(text: str) -> list[list[str]]:
    """Return the words of each entry: its first line is not indented."""
    found: list[list[str]] = []
    for line in text.splitlines():
        if not line[:1].isspace():
            found.append([])
        found[-1:] = [[*found[-1], *line.split()]] if found else []
    return [words for words in found if len(words) > 3]


def _association(words: list[str]) -> dict[str, str]:
    """Return the values that a template and a security association must have in common."""
    found: dict[str, str] = {}
    for key in ("src", "dst", "proto", "spi", "reqid", "mode"):
        if key in words[:-1]:
            found[key] = words[words.index(key) + 1]
    return found


def _serves(state: dict[str, str], template: dict[str, str]) -> bool:
    """True if an association that is negotiated serves a template; its zeros and unspecified addresses are any."""
    if int(state.get("spi", "0"), 0) == 0:
        return False
    anything = ("0", "0.0.0.0", "::")
    wanted = {key: value for key, value in template.items() if key != "spi" and value not in anything}
    return all(state.get(key, value) == value for key, value in wanted.items())


def _words(words: list[str], actions: frozenset[str]) -> dict[str, str]:
    """Return keyword → value; a word of ``actions``, and a flag, has no value."""
    found: dict[str, str] = {}
    at = 0
    while at < len(words):
        word = words[at]
        if word in _FLAGS or (word in actions and word != "goto"):
            found[word] = ""
            at += 1
        else:
            found.setdefault(word, words[at + 1] if at + 1 < len(words) else "")
            at += 2
    return found
