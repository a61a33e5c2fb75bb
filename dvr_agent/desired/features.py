"""Which objects of L3 agent extensions are built on this host at all, and texts about those that are not.

The modules of the single features compute what is built.  ``build`` uses this one.
"""

from __future__ import annotations

from collections.abc import Iterator

from dvr_agent.desired.host_settings import HostSettings
from dvr_agent.desired.qos import limited_fips
from dvr_agent.extensions import Extension
from dvr_agent.model.router import Omission, Router

NOT_KNOWN = "the objects could not be fetched; what exists of them stays unchanged"


NOT_CURRENT = "the objects could not be fetched lately; the last known ones are in use"
LISTS = {
    "port_forwardings": (Extension.PORT_FORWARDING,),
    "qos_policies": (Extension.FIP_QOS, Extension.GATEWAY_IP_QOS),
    "ndp_proxies": (Extension.NDP_PROXY,),
}
"""Key of a document → extensions that use its objects."""


def omitted_texts(router: Router, settings: HostSettings) -> list[str]:
    """Return what is left out of the document, and which objects are not known: the router is degraded by them.

    Objects of an extension that is not served degrade no router.
    """
    served = {extension.value for extension in settings.extensions}
    texts = [one.text for one in router.omitted if not one.feature or _is_served(one, served)]
    unknown = [f"{one.value}: {NOT_KNOWN}" for one in _unknown(router) if one in settings.extensions]
    older = [one for key in sorted(router.features.not_current) for one in LISTS.get(key, ())]
    return [*texts, *unknown, *(f"{one.value}: {NOT_CURRENT}" for one in older if one in settings.extensions)]


def _is_served(omission: Omission, served: set[str]) -> bool:
    # The same policies are of both kinds of QoS.
    either = {Extension.FIP_QOS.value, Extension.GATEWAY_IP_QOS.value}
    return omission.feature in served or (omission.feature in either and bool(either & served))


def _unknown(router: Router) -> Iterator[Extension]:
    features = router.features
    if features.port_forwardings is None and features.forwarding_ips:
        yield Extension.PORT_FORWARDING
    if features.qos_policies is None and limited_fips(router):
        yield Extension.FIP_QOS
    if features.qos_policies is None and features.gateway_qos_policy_id is not None:
        yield Extension.GATEWAY_IP_QOS
    if features.ndp_proxies is None and features.enable_ndp_proxy:
        yield Extension.NDP_PROXY


def unserved_warnings(router: Router, settings: HostSettings) -> list[str]:
    """Warn of objects whose extension is not named in the configuration."""
    features = router.features
    numbers = (
        (Extension.PORT_FORWARDING, len(features.port_forwardings or ()), "port forwardings"),
        (Extension.FIP_QOS, limited_fips(router), "bandwidth limits of floating IPs"),
        (Extension.GATEWAY_IP_QOS, int(features.gateway_qos_policy_id is not None), "bandwidth limits of the gateway"),
        (Extension.NDP_PROXY, len(features.ndp_proxies or ()) * features.enable_ndp_proxy, "NDP proxies"),
        (Extension.CONNTRACK_HELPER, len(features.conntrack_helpers), "conntrack helpers"),
    )
    return [
        f"{what} not built, since {extension.value} is not in [agent] extensions: {number}"
        for extension, number, what in numbers
        if number and extension not in settings.extensions
    ]
