"""Bandwidth limits of floating IPs and of the gateway's IPv4 addresses (``docs/dataplane.md``, "Bandwidth limits").

A QoS policy speaks from the instance: its egress is what leaves to the outside by ``rfp-`` or ``qg-``, its
ingress what enters by them.  A distributed floating IP is limited on ``rfp-``, where its packets pass; on ``qg-`` are
central floating IPs, those of port forwardings, and the gateway.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from operator import attrgetter
from typing import NamedTuple

from dvr_agent.desired import names
from dvr_agent.desired.host_settings import HostSettings
from dvr_agent.desired.host_view import HostView
from dvr_agent.extensions import Extension
from dvr_agent.model.features import ForwardingIp
from dvr_agent.model.router import FloatingIp, Router
from dvr_agent.plural import count, verb
from dvr_agent.state.limit import Limit, make_limit
from dvr_agent.state.ownership import Ownership

NO_LIMITS = frozenset[Limit]()
_policy = attrgetter("qos_policy_id")
QOS = (Extension.FIP_QOS, Extension.GATEWAY_IP_QOS)


class Limited(NamedTuple):
    """An address on this host that has a QoS policy.

    :ivar extension: which has to be served for that
    :ivar what: the address for people
    """

    device: str
    address: str
    policy_id: str
    extension: Extension
    what: str


def with_known_limits(ownership: Ownership, view: HostView) -> Ownership:
    """Return the ownership, without limits if those that should be there are not known, or this kernel has none.

    Then what exists stays.
    """
    features = view.router.features
    names_policy = features.gateway_qos_policy_id is not None or limited_fips(view.router) > 0
    unknown = features.qos_policies is None and names_policy
    return replace(ownership, limited=()) if unknown or view.settings.no_limits else ownership


def local_limits(view: HostView) -> frozenset[Limit]:
    """Compute the limits in the router's own namespace, those of distributed floating IPs."""
    return frozenset(_limits(view, _local(view))) or NO_LIMITS


def central_limits(view: HostView) -> frozenset[Limit]:
    """Compute the limits on the gateway device, if it is on this host."""
    return frozenset(_limits(view, _central(view))) or NO_LIMITS


def policy_of(view: HostView, limit: Limit) -> str:
    """Return the id of the QoS policy that a limit comes from; empty if it is not known."""
    found = [one for one in (*_local(view), *_central(view)) if (one.device, one.address) == limit[:3:2]]
    return found[0].policy_id if found else ""


def unlimited_texts(view: HostView) -> list[str]:
    """Return what should be limited on this host and is not: the router is degraded."""
    found = [one for one in (*_local(view), *_central(view)) if one.extension in view.settings.extensions]
    why = view.settings.no_limits
    if why:
        return [
            f"{extension.value}: {count(len(served), 'address')} {verb(len(served), 'is', 'are')} not limited: {why}"
            for extension in QOS
            if (served := {one.address for one in found if one.extension is extension})
        ]
    features = view.router.features
    if features.qos_policies is None:
        return []
    return [
        f"{one.extension.value}: {one.what} is not limited: the document lacks its QoS policy {one.policy_id}"
        for one in found
        if features.qos_policy(one.policy_id) is None
    ]


def limited_fips(router: Router) -> int:
    """Return the number of floating IPs with a QoS policy of their own."""
    policies = [*map(_policy, router.floating_ips), *map(_policy, router.features.forwarding_ips)]
    return len(policies) - policies.count(None)


def needs_limits(settings: HostSettings) -> bool:
    """True if an extension is served that needs bandwidth limits of the kernel."""
    return not settings.extensions.isdisjoint(QOS)


def _local(view: HostView) -> Iterator[Limited]:
    return _of_fips(view.rfp, view.local_fips)


def _central(view: HostView) -> Iterator[Limited]:
    features, gateway = view.router.features, view.gateway_here
    if gateway is None:
        return
    qg = names.device(names.GATEWAY, gateway.id)
    yield from _of_fips(qg, (*view.central_fips, *view.forwarding_ips))
    policy_id = features.gateway_qos_policy_id
    if policy_id is not None:
        addresses = [str(fixed.address) for fixed in gateway.fixed_ips if fixed.address.version == 4]
        for one in addresses:
            yield Limited(qg, one, policy_id, Extension.GATEWAY_IP_QOS, f"gateway IP {one}")


def _of_fips(device: str, fips: Iterable[FloatingIp | ForwardingIp]) -> Iterator[Limited]:
    for fip in fips:
        if fip.qos_policy_id is not None:
            address = str(fip.address)
            yield Limited(device, address, fip.qos_policy_id, Extension.FIP_QOS, f"floating IP {address}")


def _limits(view: HostView, limited: Iterable[Limited]) -> Iterator[Limit]:
    features, settings = view.router.features, view.settings
    for one in limited:
        policy = features.qos_policy(one.policy_id) if one.extension in settings.extensions else None
        if policy is None or settings.no_limits:
            continue
        if policy.egress is not None:
            yield make_limit(one.device, "leaving", one.address, policy.egress.kbps, policy.egress.burst)
        if policy.ingress is not None:
            yield make_limit(one.device, "entering", one.address, policy.ingress.kbps, policy.ingress.burst)
