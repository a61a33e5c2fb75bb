"""Conntrack helpers: rules of the raw table that have a helper read the connections to a port.

Used by ``qrouter`` and ``central``; ``reconcile/feature_facts.py`` asks the kernel for the helpers
(``docs/dataplane.md``, "Conntrack helpers").
"""

from __future__ import annotations

from collections.abc import Iterable

from dvr_agent.desired.common import FAMILIES
from dvr_agent.desired.host_view import HostView, MissingHelper
from dvr_agent.extensions import Extension
from dvr_agent.model.features import ConntrackHelper
from dvr_agent.state.filter import CtHelper, DportMatch, Family, FilterRule, Table, Transport
from dvr_agent.state.filter_runs import make_table

TRANSPORTS: dict[str, Transport] = {"tcp": "tcp", "udp": "udp"}
"""Protocols of which the kernel has helpers."""
KERNEL_NAMES = {("h323", "tcp"): "Q.931", ("h323", "udp"): "RAS"}
"""Helper and protocol in a document → name in the kernel, where it is another one (nf_conntrack_h323_main.c)."""


def kernel_name(helper: ConntrackHelper) -> str:
    """Return the helper's name in the kernel."""
    return KERNEL_NAMES.get((helper.helper, helper.protocol), helper.helper)


def served_helpers(view: HostView) -> tuple[ConntrackHelper, ...]:
    """Return the helpers of the router; empty if the extension is not served."""
    is_served = Extension.CONNTRACK_HELPER in view.settings.extensions
    return view.router.features.conntrack_helpers if is_served else ()


def helper_tables(view: HostView, wanted: bool = True) -> list[Table]:
    """Compute the raw tables of a namespace that translates addresses; none if the extension is not served.

    A helper has effect on connections that begin when its rule is there.

    :param wanted: False: the namespace translates no addresses now, so that rules of ours there are stale
    """
    if Extension.CONNTRACK_HELPER not in view.settings.extensions:
        return []
    helpers = served_helpers(view) if wanted else ()
    return [make_table(family, "raw", {"PREROUTING": _rules(helpers, view, family)}) for family in FAMILIES]


def _rules(helpers: Iterable[ConntrackHelper], view: HostView, family: Family) -> tuple[FilterRule, ...]:
    return tuple(
        FilterRule(CtHelper(name), protocol=transport, matches=(DportMatch(transport, one.port, one.port),))
        for one in helpers
        if (transport := TRANSPORTS.get(one.protocol)) is not None
        and MissingHelper(family, name := kernel_name(one), one.protocol) not in view.missing_helpers
    )


def helper_omissions(view: HostView) -> list[str]:
    """Name the helpers that the kernel has for no family."""
    return [
        f"{Extension.CONNTRACK_HELPER.value}: helper {one.helper} for {one.protocol} port {one.port}: "
        f"this kernel has no helper of this name for {one.protocol}"
        for one in served_helpers(view)
        if all(MissingHelper(family, kernel_name(one), one.protocol) in view.missing_helpers for family in FAMILIES)
        or one.protocol not in TRANSPORTS
    ]
