"""Takes out of two namespace views what necessarily differs between the reference agent and this one.

Every difference that is allowed stands here, in :data:`ALLOWED`, and nowhere else; everything that is left must be
equal.  Used by ``test_reference_state``.  No kernel and no file is read here.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from typing import Any

from tests.support.oracle_reader import Address, Link, Neighbour, Route, Rule, View

ALLOWED = {
    "generated MACs": "the ends of the rfp/fpr pair have MACs and link-local addresses that are made up on the spot; "
    "each becomes a word for its device wherever it is used, so a neighbour entry or a default route must still name "
    "the address that the peer really has",
    "link-local addresses": "made by the kernel from the MAC; compared is which devices have one",
    "tap or veth": "the reference plugs ports by Open vSwitch, which shows as tun; the bridge driver makes veth; "
    "compared as they are with the Open vSwitch driver",
    "pairs and priorities": "each agent chooses its own /31 pair, and the table number made from it, and its own "
    "priorities for floating IPs; compared as they are where the state files were seeded with the recorded ones",
    "unknown neighbours": "the reference never removes neighbours, and some recordings have neighbours of subnets "
    "whose get_ports_by_subnet was not recorded; the recording keeps those that the document tells of",
    "contested neighbours": "an address that several ports claim by allowed address pairs has the MAC of any of them",
    "protocol of fip table routes": "extra routes in a table of the fip namespace: boot in the reference, static here",
    "IPv6 redirect before main": "in the reference the IPv6 redirect to SNAT is dead: main, with its IPv6 default "
    "route by the fip namespace, is looked up first; two rules of ours before main make it work",
    "scope marks": "each agent numbers address scopes on its own; a mark becomes the devices that set it",
}
"""Name → why.  The text of this is documentation; the functions below carry it out."""

NO_SCOPE = "0x4000000/0xffff0000"
"""Mark of what is in no address scope (neutron.agent.l3.router_info, ADDRESS_SCOPE_MARK_ID_MIN = 1024)."""
_SCOPE = re.compile(r"0x[0-9a-f]+/0xffff0000")
_FIP_PRIORITIES = range(32768, 72768)
_CONNECTED_FIRST, _REDIRECT_FIRST = 32764, 32765


def normalised(
    views: Mapping[str, View], document: Mapping[str, Any], seeded: bool = False, kinds: bool = False
) -> dict[str, View]:
    """Views of one router's namespaces by namespace, made comparable.

    :param document: the envelope the router was built from
    :param seeded: pairs and priorities were chosen by the test, keep them
    :param kinds: ports are plugged as the reference does it, keep the kinds of devices
    """
    words = _generated(views)
    pairs = {} if seeded else _pairs(views)
    allowed = document_neighbours(document)
    return {
        name: _view(view, words | pairs, allowed, any_priority=not seeded, fip=name.startswith("fip-"), kinds=kinds)
        for name, view in views.items()
    }


def as_wanted(recorded: Mapping[str, View]) -> dict[str, View]:
    """A recording with what the contract, or this agent by intention, has otherwise than the reference agent."""
    wanted = {}
    for name, view in recorded.items():
        rules = set(view.rules)
        if any(link.name.startswith("rfp-") for link in view.links):
            for rule in view.rules:
                if ":" in rule.src and rule.table == rule.priority:
                    rules.add(Rule(_CONNECTED_FIRST, f"{rule.src} suppress_prefixlength 0", "", 254))
                    rules.add(Rule(_REDIRECT_FIRST, rule.src, "", rule.table))
        wanted[name] = replace(view, rules=frozenset(rules))
    return wanted


def differences(recorded: Mapping[str, View], actual: Mapping[str, View]) -> list[str]:
    """One line for each object that only one side has."""
    found = []
    for name in sorted({*recorded, *actual}):
        if name not in actual or name not in recorded:
            found.append(f"{name}: only {'recorded' if name in recorded else 'here'}")
            continue
        for field in fields(View):
            want, have = getattr(recorded[name], field.name), getattr(actual[name], field.name)
            found += [f"{name}: {field.name}: missing: {item}" for item in sorted(want - have)]
            found += [f"{name}: {field.name}: unexpected: {item}" for item in sorted(have - want)]
    return found


def document_neighbours(document: Mapping[str, Any]) -> dict[str, frozenset[str]]:
    """Address → MACs, of all neighbours that an envelope document tells of."""
    claims: dict[str, set[str]] = {}
    ports = [port for ports in document["ports_by_subnet"].values() for port in ports]
    for port in [*ports, *document["router"].get("_snat_router_interfaces", [])]:
        for fixed in port["fixed_ips"]:
            claims.setdefault(fixed["ip_address"], set()).add(port["mac_address"])
        for pair in port.get("allowed_address_pairs", []):
            claims.setdefault(pair["ip_address"], set()).add(pair.get("mac_address") or port["mac_address"])
    return {address: frozenset(macs) for address, macs in claims.items()}


def fip_side(view: View, device: str) -> ipaddress.IPv4Address | None:
    """The IPv4 address of a device, None without one."""
    found = [address for address in view.addresses if address.device == device and ":" not in address.cidr]
    return ipaddress.ip_interface(found[0].cidr).ip if found else None  # type: ignore[return-value]


def _generated(views: Mapping[str, View]) -> dict[str, str]:
    """MACs and link-local addresses of rfp- and fpr- devices → words for them."""
    words = {}
    for view in views.values():
        for link in view.links:
            if link.name.startswith(("rfp-", "fpr-")):
                words[link.mac] = f"<mac of {link.name}>"
        for address in view.link_local:
            if address.device.startswith(("rfp-", "fpr-")):
                words[address.cidr.partition("/")[0]] = f"<link-local of {address.device}>"
    return words


def _pairs(views: Mapping[str, View]) -> dict[str, str]:
    """Addresses of rfp- and fpr- devices, their network and the table number → words for them."""
    words = {}
    for view in views.values():
        for device, cidr in view.addresses:
            if device.startswith(("rfp-", "fpr-")):
                interface = ipaddress.ip_interface(cidr)
                words[str(interface.ip)] = f"<address of {device}>"
                words[str(interface.network)] = f"<network of {device[4:]}>"
                words[str(int(interface.ip))] = f"<number of {device}>"
    return words


def _view(
    view: View,
    words: Mapping[str, str],
    claims: Mapping[str, frozenset[str]],
    any_priority: bool,
    fip: bool,
    kinds: bool,
) -> View:
    def say(text: object) -> Any:
        head, slash, tail = str(text).partition("/")
        return words.get(str(text)) or (words[head] + slash + tail if head in words else text)

    return replace(
        view,
        links=frozenset(link._replace(mac=say(link.mac), kind=_kind(link, kinds)) for link in view.links),
        addresses=frozenset(Address(item.device, say(item.cidr)) for item in view.addresses),
        link_local=frozenset(Address(item.device, "fe80::/64") for item in view.link_local),
        routes=frozenset(
            Route(
                say(route.table),
                say(route.dst),
                tuple(" ".join(say(word) for word in hop.split()) for hop in route.hops),
                "static" if fip and route.table != 254 and route.protocol == "boot" else route.protocol,
            )
            for route in view.routes
        ),
        rules=frozenset(_rule(rule, say, any_priority) for rule in view.rules),
        neighbours=frozenset(_neighbours(view.neighbours, words, claims)),
        filter=_facts(view.filter),
    )


def _kind(link: Link, kinds: bool) -> str:
    return "veth" if link.kind in ("tun", "openvswitch") and not kinds else link.kind


def _rule(rule: Rule, say: Any, any_priority: bool) -> Rule:
    if any_priority and rule.table == 16 and rule.priority in _FIP_PRIORITIES:
        return rule._replace(priority=0)
    return rule._replace(priority=say(rule.priority), table=say(rule.table))


def _neighbours(
    items: Iterable[Neighbour], words: Mapping[str, str], claims: Mapping[str, frozenset[str]]
) -> Iterable[Neighbour]:
    for item in items:
        if item.device.startswith(("rfp-", "fpr-")):
            yield Neighbour(words.get(item.dst, item.dst), item.device, words.get(item.mac, item.mac))
        elif item.mac in claims.get(item.dst, ()):
            yield item._replace(mac="<any claimant>") if len(claims[item.dst]) > 1 else item


def _facts(facts: frozenset[str]) -> frozenset[str]:
    """Scope marks become the devices that set them."""
    setters: dict[str, list[str]] = {}
    for fact in sorted(facts):
        found = _SCOPE.search(fact)
        if found and "entering " in fact and found.group() != NO_SCOPE:
            setters.setdefault(found.group(), []).append(fact.split("entering ")[1].split()[0])
    names = {mark: f"<scope of {' '.join(sorted(set(devices)))}>" for mark, devices in setters.items()}
    return frozenset(_SCOPE.sub(lambda found: names.get(found.group(), found.group()), fact) for fact in facts)
