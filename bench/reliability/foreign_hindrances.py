"""Puts foreign things into the way of traffic, takes them away, puts them there again: each time each is named once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from bench.reliability.api import Figure, Options
from bench.reliability.living import VICTIM, VICTIM_ID, LivingHost
from tests.support import lab
from tests.support.daemon_site import EXTERNAL_BRIDGE, QROUTER, SNAT
from tests.support.waiting import wait_for

ROUNDS = 2
PATIENCE = 10.0
"""Seconds, of which the daemon makes an audit in each."""
STOPPED, GOES_ON = "traffic may be stopped by others", "traffic is no longer stopped by others"


class Hindrance(NamedTuple):
    """Something that stops traffic and is not ours.

    :ivar text: what it is named by
    :ivar begin: words of the command that puts it there; the namespace comes first, ``""`` for the host
    :ivar end: takes it away
    """

    text: str
    namespace: str
    begin: tuple[str, ...]
    end: tuple[str, ...]


def hindrances() -> Iterator[Hindrance]:
    """Yield all kinds, in all namespaces that can have them."""
    for namespace in (QROUTER, SNAT, f"qrouter-{VICTIM_ID}"):
        words = ("sysctl", "-qw")
        key = "net.ipv4.conf.all.rp_filter"
        text = f"namespace {namespace}: {key} is 1 (strict)"
        yield Hindrance(text, namespace, (*words, f"{key}=1"), (*words, f"{key}=0"))
    for program in ("iptables", "ip6tables"):
        for namespace in (QROUTER, SNAT, f"qrouter-{VICTIM_ID}"):
            policy = (f"{program}-legacy", "-P", "FORWARD")
            text = f"namespace {namespace}: {program} table filter: the policy of FORWARD is DROP"
            yield Hindrance(text, namespace, (*policy, "DROP"), (*policy, "ACCEPT"))
    link = ("ip", "link", "set", EXTERNAL_BRIDGE)
    yield Hindrance(f"bridge {EXTERNAL_BRIDGE} is down", "", (*link, "down"), (*link, "up"))


def measure(options: Options) -> Figure:
    """Try one after the other, and all of them at once."""
    wrong, times = list[str](), 0
    with LivingHost(ping=False) as host:
        host.put(VICTIM)
        host.settle(VICTIM)
        kinds = list(hindrances())
        groups = [kinds[:: len(kinds) - 1]] if options.quick else [*([one] for one in kinds), kinds]
        for group in groups:
            for number in range(1, ROUNDS + 1):
                times += len(group)
                wrong += [f"time {number}: {line}" for line in _named_once(host, group)]
        wrong += host.faults_in_log()
    text = f"{len(kinds)} hindrances, {times} times put there: {len(wrong)} not named exactly once, or after their end"
    return Figure(text, not wrong, tuple(wrong[:40]))


def _named_once(host: LivingHost, group: list[Hindrance]) -> Iterator[str]:
    """Put some there, and take them away."""
    before = {one: _said(host, one) for one in group}
    for one in group:
        _run(one.namespace, one.begin)
    try:
        wait_for(lambda: all(_said(host, one)[0] > before[one][0] for one in group), "they are named", PATIENCE)
    except AssertionError:
        yield from (f"not named: {one.text}" for one in group if _said(host, one)[0] == before[one][0])
    host.site.audited()
    for one in group:
        if _said(host, one)[0] > before[one][0] + 1:
            yield f"named {_said(host, one)[0] - before[one][0]} times: {one.text}"
    troubles = " ".join(host.daemon.status()["troubles"])
    if not any(one.text in troubles for one in group) or (
        len(group) > 1 and f"and {len(group) - 1} more" not in troubles
    ):
        yield f"the status says: {troubles}"
    for one in group:
        _run(one.namespace, one.end)
    wait_for(lambda: not host.daemon.status()["troubles"], "the status is well", 30)
    yield from (f"its end is told {_said(host, one)[1] - before[one][1]} times: {one.text}" for one in group
                if _said(host, one)[1] != before[one][1] + 1)  # fmt: skip


def _said(host: LivingHost, one: Hindrance) -> tuple[int, int]:
    """Return how often the log names it, and its end."""
    lines = [line for line in f"{host.daemon.out}{host.daemon.err}".splitlines() if one.text in line]
    return sum(STOPPED in line for line in lines), sum(GOES_ON in line for line in lines)


def _run(namespace: str, words: tuple[str, ...]) -> None:
    if namespace:
        lab.in_netns(namespace, *words)
    else:
        lab.run(*words)
