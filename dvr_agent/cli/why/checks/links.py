"""Devices on the path: carrier.  That they are missing or down the planner's difference says."""

from __future__ import annotations

from collections.abc import Iterator

from dvr_agent.attach.outer_ends import tap_name
from dvr_agent.cli.why import causes
from dvr_agent.cli.why.facts import Facts, LinkFacts
from dvr_agent.cli.why.verdicts import Step, ok, unknown, wrong


def links(facts: Facts) -> Iterator[Step]:
    """Judge state and carrier of each device on the path."""
    for there in facts.places:
        if "links" in there.unread:
            yield unknown("link", f"in {there.name}: {there.unread['links']}")
        for name in sorted(facts.path.devices(there.name)):
            link = there.link(name)
            if link is not None:
                yield _judged(facts, there.name, link)


def _judged(facts: Facts, namespace: str, link: LinkFacts) -> Step:
    if not link.up or link.carrier:  # one that is down has no carrier, and is a difference already
        return ok("link", f"in {namespace}", link.text) if link.up else unknown("link", f"in {namespace}", link.text)
    peer = _peer(facts, namespace, link.name)
    return wrong(
        "link", f"no carrier in {namespace}", link.text, causes.NO_CARRIER,
        device=link.name, namespace=namespace, peer=peer,
    )  # fmt: skip


def _peer(facts: Facts, namespace: str, device: str) -> str:
    """Return the name of the other end."""
    leg = next((leg for leg in facts.path.legs if (leg.namespace, leg.device) == (namespace, device)), None)
    if leg is not None:
        return tap_name(leg.port.id)
    return next((end for name, end in facts.path.pair.items() if name != namespace), "its other end")
