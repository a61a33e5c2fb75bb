"""Finds what stops a router's traffic without being ours.  Nothing of it is changed; the operator is warned.

Everything is taken from the observed state of the router's namespaces: no further read.  Used by the planner.
"""

from __future__ import annotations

from collections.abc import Iterable

from dvr_agent.state.namespace import NamespaceState
from dvr_agent.state.sysctl import Sysctl

STRICT = Sysctl("ipv4/conf/all/rp_filter", "1")
"""The parameter, with the value that drops replies which come in by another device than requests leave by."""


def find_hindrances(states: Iterable[NamespaceState | None]) -> tuple[str, ...]:
    """Return what stops traffic in the observed namespaces, a text for each."""
    return tuple(text for state in states if state is not None for text in _of_namespace(state))


def _of_namespace(state: NamespaceState) -> Iterable[str]:
    for table in state.tables:
        if table.name == "filter" and "FORWARD" in table.dropping:
            yield f"namespace {state.name}: {table.text}: the policy of FORWARD is DROP"
    if STRICT in state.sysctls:
        yield f"namespace {state.name}: net.ipv4.conf.all.rp_filter is 1 (strict): it drops replies by another device"
