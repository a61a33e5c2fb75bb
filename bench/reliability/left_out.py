"""Gives the daemon documents with values that cannot be: each is built without them, and each value is named."""

from __future__ import annotations

import copy
import itertools
import json
import random
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from bench.reliability.api import Figure, Options
from bench.reliability.crashes import differences
from bench.reliability.living import FILE, VICTIM, LivingHost, picture
from tests.support.hostile import SEED
from tests.support.waiting import wait_for

DOCUMENTS, QUICK_DOCUMENTS = 240, 6
ROUTER = "router"
FLOATING, GOOD = "198.51.1.77", ("172.17.0.0/16", "10.2.1.9")
"""A floating IP and an extra route that each of the documents has too, and that are built."""
Value = Callable[[random.Random], str]


class Fault(NamedTuple):
    """One document.

    :ivar path: of the value that cannot be
    :ivar value: as JSON
    """

    document: Any
    path: str
    value: str


def measure(options: Options) -> Figure:
    """Give one document after the other."""
    rng, wrong = random.Random(SEED), list[str]()
    count = QUICK_DOCUMENTS if options.quick else DOCUMENTS
    with LivingHost() as host:
        host.put(whole())
        wanted = host.settle(whole())
        for make in itertools.islice(itertools.cycle(KINDS), count):
            fault = make(rng)
            wrong += [f"{fault.path} is {fault.value}: {line}" for line in _told(host, fault)]
        host.put(whole())
        wrong += differences(wanted, host.settle(whole()))
        wrong += host.faults_in_log()
        lost, sent = host.lost()
    text = (
        f"{count} documents with values of {min(count, len(KINDS))} kinds that cannot be: {len(wrong)} not built "
        f"without them, or not named; {lost} of {sent:,} pings of others lost"
    )
    return Figure(text, not wrong and not lost, tuple(wrong[:40]))


def whole() -> Any:
    """Return the victim's document with a second floating IP and an extra route."""
    document = copy.deepcopy(VICTIM)
    (first,) = document[ROUTER]["_floatingips"]
    second = {
        **first,
        "id": f"{first['id'][:-4]}f00d",
        "floating_ip_address": FLOATING,
        "fixed_ip_address": "10.2.1.77",
    }
    document[ROUTER]["_floatingips"].append(second)
    document[ROUTER]["routes"] = [{"destination": GOOD[0], "nexthop": GOOD[1]}]
    return document


def _told(host: LivingHost, fault: Fault) -> Iterator[str]:
    """Yield what is wrong with the host after a document."""
    said = len(host.daemon.out)
    host.put(fault.document)
    name = f"{fault.path} is {fault.value}"
    try:
        record = wait_for(lambda: _degraded(host, name), f"degraded by {name}", 20)
    except AssertionError as exc:
        yield f"{exc}: {[one for one in host.daemon.status()['routers'] if one['name'].startswith('victim')]}"
        return
    if record["next_retry"] is not None:
        yield "it is tried again"
    lines = [line for line in host.daemon.out[said:].splitlines() if f"left out: {FILE}.json: {name}" in line]
    if len(lines) != 1:
        yield f"{len(lines)} lines of the log name it"
    text = json.dumps(picture())
    yield from (f"{what} is not built" for what in (FLOATING, GOOD[0], f"snat-{record['id']}") if what not in text)


def _degraded(host: LivingHost, name: str) -> Any:
    """Return the victim's record once its last document is worked on and its reason names the value."""
    status = host.daemon.status()
    found = [one for one in status["routers"] if one["name"] == f"victim {host.puts}" and name in (one["reason"] or "")]
    return found[0] if found and found[0]["state"] == "degraded" and not status["queue_depth"] else None


# Addresses


def _one_of(*values: str) -> Value:
    return lambda rng: rng.choice(values)


def _in(first: int, others: int = 3) -> Value:
    """An address in ``first.0.0.0/8``."""
    return lambda rng: ".".join(map(str, (first, *(rng.randrange(256) for _ in range(others)))))


def _multicast(rng: random.Random) -> str:
    return _in(rng.randrange(224, 240))(rng)


def _link_local(rng: random.Random) -> str:
    return f"169.254.{rng.randrange(256)}.{rng.randrange(256)}"


NOWHERE: tuple[Value, ...] = (_in(127), _multicast, _link_local, _one_of("0.0.0.0", "255.255.255.255"))
OUTSIDE: tuple[Value, ...] = (_one_of("203.0.113.1", "203.0.113.0", "203.0.113.255"), *NOWHERE)
INSIDE: tuple[Value, ...] = (_one_of("10.2.1.1", "10.2.1.0", "10.2.1.255"), _in(11), *NOWHERE)


def _at(places: tuple[str | int, ...], value: Value) -> Callable[[random.Random], Fault]:
    """Put a value at a place of the document."""

    def make(rng: random.Random) -> Fault:
        document, found = whole(), value(rng)
        here = document
        for key in places[:-1]:
            here = here[key]
        here[places[-1]] = found
        path = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in places)
        return Fault(document, f"${path}", json.dumps(found))

    return make


def _next_hop(destination: str, value: Value) -> Callable[[random.Random], Fault]:
    def make(rng: random.Random) -> Fault:
        document, found = whole(), value(rng)
        document[ROUTER]["routes"].append({"destination": destination, "nexthop": found})
        return Fault(document, "$.router.routes[1].nexthop", json.dumps(found))

    return make


def _mtu(rng: random.Random) -> Fault:
    """An internal network with IPv6 whose frames are too small for it; its IPv4 part is built."""
    document, mtu = whole(), rng.randrange(576, 1280)
    port = document[ROUTER]["_interfaces"][0]
    subnet = "d0a7c0de-0000-4000-8000-000000000006"
    port["fixed_ips"].append({"ip_address": "2001:db8:77::1", "prefixlen": 64, "subnet_id": subnet})
    port["subnets"].append({"id": subnet, "cidr": "2001:db8:77::/64", "gateway_ip": "2001:db8:77::1"})
    port["mtu"] = mtu
    return Fault(document, "$.router._interfaces[0].mtu", str(mtu))


_FIP = (ROUTER, "_floatingips", 0)
_GATEWAY = (ROUTER, "gw_port")
KINDS: tuple[Callable[[random.Random], Fault], ...] = (
    *(_at((*_FIP, "floating_ip_address"), value) for value in OUTSIDE),
    *(_at((*_FIP, "fixed_ip_address"), value) for value in INSIDE),
    *(_at((*_GATEWAY, "fixed_ips", 0, "ip_address"), value) for value in OUTSIDE),
    _at((*_GATEWAY, "subnets", 0, "gateway_ip"), _one_of("203.0.113.0", "203.0.113.255")),
    _next_hop("172.16.0.0/16", _one_of("10.2.1.0", "10.2.1.255", "10.2.1.1", "203.0.113.255", "2001:db8::1")),
    _next_hop("2001:db8:9::/48", _one_of("10.2.1.5", "10.2.1.6")),
    _next_hop("172.18.0.0/16", _multicast),
    _mtu,
)
"""Makers of documents, each of another kind."""
