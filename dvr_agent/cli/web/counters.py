"""Reads packet and byte counters of devices in namespaces of routers, from ``/proc/net/dev`` in each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dvr_agent.desired import names
from dvr_agent.errors import KernelError, NamespaceGoneError
from dvr_agent.kernel.netns import entered
from dvr_agent.web.wire import Kind, QuestionError

_FIELDS = {"rx_bytes": 0, "rx_packets": 1, "rx_errors": 2, "rx_dropped": 3,
           "tx_bytes": 8, "tx_packets": 9, "tx_errors": 10, "tx_dropped": 11}  # fmt: skip
"""Column of /proc/net/dev (proc(5))."""
_HEADER_LINES = 2


def device_counters(namespaces: list[str], router_id: str) -> dict[str, Any]:
    """Return namespace → device → counters; of a fip namespace's pairs that of the router only.

    :raises QuestionError: a namespace may not be entered
    """
    found = {}
    for namespace in namespaces:
        try:
            text = _read(namespace)
        except NamespaceGoneError:
            continue
        except KernelError as exc:
            raise QuestionError(Kind.FAILED, str(exc)) from exc
        found[namespace] = _wanted(parse(text), router_id)
    return found


def parse(text: str) -> dict[str, dict[str, int]]:
    """Return device → counters of the text of ``/proc/net/dev``."""
    found = {}
    for line in text.splitlines()[_HEADER_LINES:]:
        device, _colon, rest = line.strip().partition(":")
        numbers = rest.split()
        found[device] = {name: int(numbers[column]) for name, column in _FIELDS.items()}
    return found


def _read(namespace: str) -> str:
    with entered(namespace):
        return Path("/proc/thread-self/net/dev").read_text(encoding="ascii")


def _wanted(devices: dict[str, dict[str, int]], router_id: str) -> dict[str, dict[str, int]]:
    own = names.FIP_TO_ROUTER + names.router_stem(router_id)
    return {
        name: counters
        for name, counters in devices.items()
        if not name.startswith(names.FIP_TO_ROUTER) or not router_id or name == own
    }
