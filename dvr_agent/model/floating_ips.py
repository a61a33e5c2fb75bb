"""Reads the floating IPs of a router, for ``parse``; ``external`` decides which of them can be built."""

from __future__ import annotations

from operator import attrgetter
from typing import Any, NamedTuple

from dvr_agent.model import values
from dvr_agent.model.checks import RouterChecks
from dvr_agent.model.external import FloatingIpRules
from dvr_agent.model.reader import MISSING, At, array, boolean, mapping
from dvr_agent.model.recall import LONG, LongLists, Remembered
from dvr_agent.model.router import FloatingIp, Omission, RouterPort

_lists: LongLists[FloatingIp] = LongLists(
    "id",
    "floating_ip_address",
    "fixed_ip_address",
    "floating_network_id",
    "host",
    "dest_host",
    "dvr_snat_bound",
    "fixed_ip_address_scope",
    "qos_policy_id",
)
"""Floating IPs that can be built, by router id."""


class FloatingIps(NamedTuple):
    """Floating IPs of a router.

    :ivar refused: floating IPs that cannot be built
    :ivar omitted: why these cannot be built
    """

    found: tuple[FloatingIp, ...]
    refused: tuple[FloatingIp, ...]
    omitted: tuple[Omission, ...]


def floating_ips(
    value: object, at: At, gateway: RouterPort | None, rules: FloatingIpRules, checks: RouterChecks, recall: str
) -> FloatingIps:
    """Read the associated floating IPs; one without fixed address is unassociated and ignored.

    :param recall: id of the router, to take over what was read of its last document; errors may name another place
        then.  Empty: read all
    :raises Invalid: a value is not what it has to be
    """
    items = array(value, at)
    if len(items) < LONG:
        recall = ""
    kept: dict[bytes, FloatingIp] = {}
    new: list[tuple[int, bytes | None]] = [(index, None) for index in range(len(items))]
    if recall:
        kept, new = _recalled(items, _known(recall, gateway, rules))
    found, refused, omitted = [*kept.values()], [], []
    checks.known_floating_ips(found, len(items) - len(new), at)
    for index, words in new:
        here: At = (at, index)
        entry = mapping(items[index], here)
        if entry.get("fixed_ip_address") is None:
            continue
        fip = _floating_ip(entry, here)
        reason = rules.check(fip, here)
        checks.floating_ip(fip, gateway, here, omitted=reason is not None)
        if reason is not None:
            refused.append(fip)
            omitted.append(reason)
            continue
        found.append(fip)
        if words is not None:
            kept[words] = fip
    if recall:
        _lists.keep(recall, Remembered((gateway, rules), kept))
    found.sort(key=lambda fip: int(fip.address))
    return FloatingIps(tuple(found), tuple(sorted(refused, key=attrgetter("id"))), tuple(omitted))


def _recalled(
    items: list[Any], known: dict[bytes, FloatingIp]
) -> tuple[dict[bytes, FloatingIp], list[tuple[int, bytes | None]]]:
    """Return the known floating IPs of a list, and (index, bytes) of the items that have to be read."""
    kept: dict[bytes, FloatingIp] = {}
    new: list[tuple[int, bytes | None]] = []
    for index, item in enumerate(items):
        words = _lists.words(item)
        fip = known.get(words) if words is not None else None
        if words is None or fip is None:
            new.append((index, words))
        else:
            kept[words] = fip
    return kept, new


def _known(router_id: str, gateway: RouterPort | None, rules: FloatingIpRules) -> dict[bytes, FloatingIp]:
    """Return the floating IPs of the router's last document, if each of them could be built today."""
    last = _lists.get(router_id)
    if last is None or gateway is None:
        return {}
    before, judged_by = last.around
    is_same = before is not None and before.network_id == gateway.network_id and rules.judge_alike(judged_by)
    return last.values if is_same else {}


def _floating_ip(entry: dict[str, Any], at: At) -> FloatingIp:
    scope_at: At = (at, "fixed_ip_address_scope")
    return FloatingIp(
        id=values.uuid(entry.get("id", MISSING), (at, "id")),
        address=values.address4(entry.get("floating_ip_address", MISSING), (at, "floating_ip_address")),
        fixed_address=values.address4(entry["fixed_ip_address"], (at, "fixed_ip_address")),
        network_id=values.uuid(entry.get("floating_network_id", MISSING), (at, "floating_network_id")),
        host=values.optional_name(entry.get("host"), (at, "host")),
        dest_host=values.optional_name(entry.get("dest_host"), (at, "dest_host")),
        snat_bound=boolean(entry.get("dvr_snat_bound", False), (at, "dvr_snat_bound")),
        fixed_scope=values.optional_uuid(entry.get("fixed_ip_address_scope"), scope_at),
        qos_policy_id=values.optional_uuid(entry.get("qos_policy_id"), (at, "qos_policy_id")),
        port_id=values.canonical_id(entry.get("port_id")),
    )
