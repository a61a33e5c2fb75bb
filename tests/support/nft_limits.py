"""Reads bandwidth limits by the nft program, independently of the code under test."""

from __future__ import annotations

import json
import re
from typing import Any

from dvr_agent.state.limit import DIRECTIONS, Limit
from tests.support import lab

_HOOKS = {"egress": "leaving", "ingress": "entering"}
_UNITS = {"bytes": 1, "kbytes": 1024, "mbytes": 1024 * 1024}


def nft_limits(namespace: str) -> set[Limit]:
    """The limits that packets meet in a namespace, as nft lists them."""
    found: dict[str, list[dict[str, Any]]] = {"limit": [], "map": [], "chain": [], "rule": []}
    for one in _listing(namespace):
        for kind in found.keys() & one.keys():
            found[kind].append(one[kind])
    limits = {one["name"]: one for one in found["limit"]}
    maps = {one["name"]: one.get("elem", []) for one in found["map"]}
    assert len(found["rule"]) == len(found["chain"]) == len(maps)
    devices = _devices(namespace)
    return {
        _limit(chain, devices[chain["name"]], address, limits[name])
        for chain in found["chain"]
        for address, name in maps[_map_of(next(one for one in found["rule"] if one["chain"] == chain["name"]))]
    }


def limit_handles(namespace: str) -> dict[str, int]:
    """Name of each limit object → its handle: the object of a handle keeps its tokens."""
    return {one["limit"]["name"]: one["limit"]["handle"] for one in _listing(namespace) if "limit" in one}


def _listing(namespace: str) -> list[dict[str, Any]]:
    listed = lab.in_netns(namespace, "nft", "-j", "-a", "list", "ruleset", "netdev")
    objects: list[dict[str, Any]] = json.loads(listed)["nftables"] if listed else []
    return [one for one in objects if "metainfo" not in one]


def _map_of(rule: dict[str, Any]) -> str:
    """The map of a rule that limits packets by their address in it, and drops what is over."""
    *_, reference, count, verdict = rule["expr"]
    assert verdict == {"drop": None}
    assert count["set"]["stmt"][0].keys() == {"counter"}
    (field,) = [value for value in _values(reference) if isinstance(value, str) and value.startswith("@")]
    return str(field[1:])


def _values(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for one in value.values() for leaf in _values(one)]
    return [value]


def _devices(namespace: str) -> dict[str, str]:
    """Chain → its device; nft 1.0.6 leaves those of egress out of its JSON."""
    text = lab.in_netns(namespace, "nft", "list", "ruleset", "netdev")
    return dict(re.findall(r'chain (\S+) \{\s+type filter hook \w+ device "(\S+)"', text))


def _limit(chain: dict[str, Any], device: str, address: str, limit: dict[str, Any]) -> Limit:
    assert (chain["policy"], limit["inv"], limit["per"]) == ("accept", True, "second")
    direction = next(one for one in DIRECTIONS if one == _HOOKS[chain["hook"]])
    rate = limit["rate"] * _UNITS[limit.get("rate_unit", "bytes")]
    burst = limit.get("burst", 0) * _UNITS[limit.get("burst_unit", "bytes")]
    return Limit(device, direction, address, rate, burst + rate)
