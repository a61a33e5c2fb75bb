"""Packet filter rules that lead an instance's metadata request to the proxy in the router's namespace.

Used by ``qrouter`` and, for legacy routers, ``central``; the address also by ``router_advertisements``
(``docs/metadata.md``).  All routers have the same rules, so each is made once for a mark and a port, which are options.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from dvr_agent.desired.common import ACCEPT, DROP
from dvr_agent.desired.host_settings import HostSettings
from dvr_agent.desired.scope_marks import LOW_MASK
from dvr_agent.state.filter import DportMatch, Family, FilterRule, MarkMatch, Redirect, SetMark

ADDRESSES: dict[Family, str] = {4: "169.254.169.254/32", 6: "fe80::a9fe:a9fe/128"}
"""Addresses to which instances send metadata requests."""


@cache
def metadata_mark(family: Family, mark: int) -> FilterRule:
    """Mark requests of instances to the metadata address."""
    return FilterRule(
        SetMark(mark, LOW_MASK),
        dst=ADDRESSES[family],
        iif="qr-+",
        protocol="tcp",
        matches=(DportMatch("tcp", 80, 80),),
    )


@cache
def metadata_redirect(family: Family, port: int) -> FilterRule:
    """Redirect requests to the metadata address to the proxy in the router's namespace."""
    return replace(metadata_mark(family, 0), target=Redirect(port))


@cache
def metadata_input(mark: int, port: int) -> tuple[FilterRule, ...]:
    """Accept redirected requests to the metadata address; drop packets that were sent to the proxy's port."""
    direct = FilterRule(DROP, protocol="tcp", matches=(DportMatch("tcp", port, port),))
    return FilterRule(ACCEPT, matches=(MarkMatch(mark, LOW_MASK),)), direct


@cache
def metadata_forward(mark: int) -> FilterRule:
    """Drop requests to the metadata address that were not redirected, because they are older than the rules."""
    return FilterRule(DROP, matches=(MarkMatch(mark, LOW_MASK),))


def metadata_nat(settings: HostSettings, family: Family) -> tuple[FilterRule, ...]:
    """Return the rules of the nat table's PREROUTING; none without a proxy."""
    return (metadata_redirect(family, settings.metadata_port),) if settings.metadata else ()


def metadata_filter(settings: HostSettings) -> dict[str, tuple[FilterRule, ...]]:
    """Return the rules of the filter table by chain; none without a proxy."""
    if not settings.metadata:
        return {}
    mark, port = settings.metadata_mark, settings.metadata_port
    return {"FORWARD": (metadata_forward(mark),), "INPUT": metadata_input(mark, port)}
