"""The types of versioned objects that documents have beside the router, and which of them a router needs.

Objects are asked for, and known, by group: all port forwardings of a floating IP, the QoS policy of an id, all NDP
proxies of a router.  Pure functions and values, for any thread.  Versions are those of Neutron 29 (neutron/objects).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dvr_agent.extensions import Extension
from dvr_agent.model.values import canonical_id
from dvr_agent.sources.neutron.api import Json, RemoteError

GroupIds = frozenset[str]
PORT, PORT_VERSION = "Port", "1.7"
"""Documents have no ports of this type; questions about them use an old version, which older servers know, too."""


@dataclass(frozen=True, slots=True)
class ObjectType:
    """A type of versioned objects.

    :ivar name: in questions and notifications
    :ivar key: of the list in a document
    :ivar group_by: field whose values are asked for
    :ivar extensions: any of them needs these objects
    :ivar groups_of: returns the groups that a router of the server's answer needs
    """

    name: str
    version: str
    key: str
    group_by: str
    extensions: frozenset[Extension]
    groups_of: Callable[[Json], Iterable[object]]

    def group(self, data: Json) -> str | None:
        """Return the group of an object; None: it has no valid one."""
        return canonical_id(data.get(self.group_by))

    def groups(self, router: Json) -> GroupIds:
        """Return the groups that a router needs."""
        return frozenset(filter(None, map(canonical_id, self.groups_of(router))))


def checked(answer: object) -> list[Json]:
    """Return the objects of an answer of ``bulk_pull``.

    :raises RemoteError: it is no list of objects
    """
    if not isinstance(answer, list) or not all(isinstance(one, dict) for one in answer):
        raise RemoteError("bulk_pull: the answer is no list of objects")
    return answer


def _dicts(value: Any) -> list[Json]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _forwarding_ips(router: Json) -> Iterator[object]:
    listed = router.get("fip_managed_by_port_forwardings")
    yield from listed if isinstance(listed, list) else ()
    yield from (fip.get("id") for fip in _dicts(router.get("_pf_floatingips")))


def _policies(router: Json) -> Iterator[object]:
    for fip in (*_dicts(router.get("_floatingips")), *_dicts(router.get("_pf_floatingips"))):
        yield fip.get("qos_policy_id")
    gateway = router.get("external_gateway_info")
    if isinstance(gateway, dict):
        yield gateway.get("qos_policy_id")


def _router_of_proxies(router: Json) -> Iterator[object]:
    if router.get("enable_ndp_proxy"):
        yield router.get("id")


PORT_FORWARDING = ObjectType(
    "PortForwarding",
    "1.3",
    "port_forwardings",
    "floatingip_id",
    frozenset({Extension.PORT_FORWARDING}),
    _forwarding_ips,
)
QOS_POLICY = ObjectType(
    "QosPolicy", "1.10", "qos_policies", "id", frozenset({Extension.FIP_QOS, Extension.GATEWAY_IP_QOS}), _policies
)
NDP_PROXY = ObjectType(
    "NDPProxy", "1.0", "ndp_proxies", "router_id", frozenset({Extension.NDP_PROXY}), _router_of_proxies
)
TYPES = (PORT_FORWARDING, QOS_POLICY, NDP_PROXY)

CONNTRACK_HELPER = ("ConntrackHelper", "1.0")
"""Routers have their conntrack helpers in their own answers: a change means that a router must be asked for again."""


def served_types(extensions: Iterable[Extension]) -> tuple[ObjectType, ...]:
    """Return the types that these extensions need."""
    wanted = frozenset(extensions)
    return tuple(one for one in TYPES if one.extensions & wanted)


def pushed_types(extensions: Iterable[Extension]) -> list[tuple[str, str]]:
    """Return (type, version) of the objects whose changes are listened to."""
    wanted = frozenset(extensions)
    found = [(one.name, one.version) for one in served_types(wanted)]
    return [*found, CONNTRACK_HELPER] if Extension.CONNTRACK_HELPER in wanted else found


def groups_by_key(router: Json) -> Mapping[str, GroupIds]:
    """Return the groups that a router needs, by key of the document."""
    return {one.key: groups for one in TYPES if (groups := one.groups(router))}
