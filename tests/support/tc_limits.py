"""Reads bandwidth limits by the tc program, independently of the code under test."""

from __future__ import annotations

import re
from ipaddress import ip_address

from dvr_agent.state.limit import Direction, Limit
from tests.support import lab

_HOOKS: dict[str, Direction] = {"egress": "leaving", "ingress": "entering"}
_MATCH = re.compile(r"match ([0-9a-f]{8})/ffffffff at (12|16)")
_POLICE = re.compile(r"police \S+ rate (\S+) burst (\S+) mtu \S+ action drop/continue")
_OFFSETS = {"leaving": "12", "entering": "16"}
_BITS = {"bit": 1, "Kbit": 10**3, "Mbit": 10**6, "Gbit": 10**9}
_BYTES = {"b": 1, "Kb": 1024, "Mb": 1024**2, "Gb": 1024**3}


def tc_limits(namespace: str, device: str) -> set[Limit]:
    """The limits that packets meet at a device, as tc lists the filters in its ``clsact``."""
    found = set()
    for hook, direction in _HOOKS.items():
        for one in filters(namespace, device, hook).split(" fh ")[1:]:
            match, police = _MATCH.search(one), _POLICE.search(one)
            if match is None or police is None:
                continue
            assert match[2] == _OFFSETS[direction]
            address = str(ip_address(int(match[1], 16)))
            rate, burst = (_number(text, units) for text, units in zip(police.groups(), (_BITS, _BYTES), strict=True))
            found.add(Limit(device, direction, address, round(rate / 8), round(burst)))
    return found


def filters(namespace: str, device: str, hook: str) -> str:
    """What tc lists at a hook of a device."""
    return lab.run("tc", "-n", namespace, "filter", "show", "dev", device, hook, check=False)


def qdiscs(namespace: str, device: str) -> list[str]:
    """The kinds of a device's qdiscs, but for those that are there without anyone's doing."""
    lines = lab.run("tc", "-n", namespace, "qdisc", "show", "dev", device).splitlines()
    return [kind for kind in (line.split()[1] for line in lines) if kind not in ("noqueue", "pfifo_fast")]


def _number(text: str, units: dict[str, int]) -> float:
    number, unit = re.fullmatch(r"([0-9.]+)([A-Za-z]+)", text).groups()  # type: ignore[union-attr]
    return float(number) * units[unit]
