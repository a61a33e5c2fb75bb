"""Bandwidth limits as a host's kernel has them, whichever agent made them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from tests.support.cloud.host import Host

UNITS = {"bytes": 1, "kbytes": 1 << 10, "mbytes": 1 << 20}


def limits(host: Host, namespace: str) -> set[int]:
    """Rates in kbit/s of all limits in a namespace: of our table, and of the reference agent's police filters."""
    return {round(rate) for rate in (*_ours(host, namespace), *_theirs(host, namespace))}


def _ours(host: Host, namespace: str) -> Iterator[float]:
    words = ["ip", "netns", "exec", namespace, "nft", "-j", "list", "table", "netdev", "dvr_qos"]
    if text := host.run(*words, check=False):
        yield from _rates(json.loads(text))


def _rates(value: Any) -> Iterator[float]:
    """Every limit below a piece of nft's JSON."""
    if isinstance(value, dict):
        if "rate" in value and "per" in value:
            yield value["rate"] * UNITS[value.get("rate_unit", "bytes")] * 8 / 1000
        for inner in value.values():
            yield from _rates(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _rates(inner)


def _theirs(host: Host, namespace: str) -> Iterator[float]:
    # Kept by the stand-in for tc (wrap/tc); a file that is just being written has nothing yet.
    text = host.tc_filters.read_text() if host.tc_filters.exists() else ""
    for place, filters in json.loads(text or "{}").items():
        if place.split()[0] == namespace and namespace in host.namespaces():
            for one in filters.values():
                if found := re.search(r"rate (\d+)kbit", one["police"]):
                    yield float(found.group(1))
