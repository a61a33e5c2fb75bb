"""Leaves the IPv6 part out of a namespace that has no IPv6; used by ``build``.

A namespace has none where the kernel was booted with ``ipv6.disable=1``, and where ``net.ipv6.conf.all.disable_ipv6``
is 1 in it: the kernel refuses addresses and routes there.  So it does on devices that were made while
``net.ipv6.conf.default.disable_ipv6`` was 1; others keep their IPv6, so that a namespace counts only if none has any.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from dvr_agent.desired import names
from dvr_agent.model.ipv6_mtu import without_ipv6
from dvr_agent.model.router import Router
from dvr_agent.state.namespace import NamespaceState
from dvr_agent.state.rule import KERNEL_RULES
from dvr_agent.state.virtual_router import VirtualRouterState


def ipv4_part(state: NamespaceState, absent: bool) -> NamespaceState:
    """Return a desired state without what the kernel refuses where IPv6 is off.

    :param absent: the kernel has no IPv6 at all: no parameters, no rules of its own and no packet filter tables either
    """
    state = replace(
        state,
        addresses=frozenset(one for one in state.addresses if ":" not in one.cidr),
        routes=frozenset(one for one in state.routes if ":" not in one.dst),
        rules=frozenset(one for one in state.rules if one.family == 4 or (one in KERNEL_RULES and not absent)),
        proxy_neighbours=frozenset(),
        neighbours=frozenset(one for one in state.neighbours if ":" not in one.dst),
        announcements=tuple(one for one in state.announcements if ":" not in one.address),
        virtual_router=_ipv4_part_of(state.virtual_router),
    )
    if not absent:
        return state
    return replace(
        state,
        sysctls=frozenset(one for one in state.sysctls if not one.key.startswith("ipv6/")),
        tables=tuple(table for table in state.tables if table.family == 4),
    )


def _ipv4_part_of(virtual_router: VirtualRouterState | None) -> VirtualRouterState | None:
    if virtual_router is None:
        return None
    return replace(
        virtual_router,
        addresses=tuple(one for one in virtual_router.addresses if ":" not in one.cidr),
        routes=tuple(one for one in virtual_router.routes if ":" not in one.dst),
        gateways=tuple(one for one in virtual_router.gateways if ":" not in str(one.gateway)),
    )


def omission_text(state: NamespaceState, parameter: str) -> str:
    """Return which IPv6 addresses of a document are left out of a namespace, and why; empty if it asks for none.

    :param parameter: the one that says so, empty if the kernel has no IPv6 at all
    """
    held = state.virtual_router.addresses if state.virtual_router is not None else ()
    found = (one.cidr for one in (*state.addresses, *held) if ":" in one.cidr)
    addresses = sorted(one for one in found if not one.startswith("fe80:"))
    if not addresses:
        return ""
    off = f"net.{parameter.replace('/', '.')} is 1 there"
    why = off if parameter else "this kernel has no IPv6 (ipv6.disable=1)"
    return f"IPv6 addresses {', '.join(addresses)} in namespace {state.name}: {why}"


def advertising(router: Router, without: Collection[str], absent: bool) -> Router:
    """Return the router that its services see: without the IPv6 subnets that are not in its namespace.

    :param without: names of namespaces without IPv6
    """
    if not absent and names.QROUTER + router.id not in without:
        return router
    return replace(router, interfaces=tuple(without_ipv6(port) for port in router.interfaces))
