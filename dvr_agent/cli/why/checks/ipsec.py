"""IPsec policies of other programs that drop the subject's packets."""

from __future__ import annotations

from collections.abc import Iterator

from dvr_agent.cli.why import causes
from dvr_agent.cli.why.checks.networks import covers_any
from dvr_agent.cli.why.facts import Facts, Kind, PolicyFacts
from dvr_agent.cli.why.verdicts import Step, wrong

_EVERYWHERE = ("0.0.0.0/0", "::/0")


def policies(facts: Facts) -> Iterator[Step]:
    """Judge the policies in the namespaces on the path: dvr-agent has none."""
    for there in facts.places:
        for policy in there.policies:
            mine, peer = (policy.src, policy.dst) if policy.direction == "out" else (policy.dst, policy.src)
            if not _is_on_way(facts, policy, mine):
                continue
            peers = "to and from any address" if peer in _EVERYWHERE else f"to and from {peer} only"
            selector = policy.text.partition(f" dir {policy.direction}")[0] + f" dir {policy.direction}"
            text = f"in {there.name}: {policy.why}"
            values = {"namespace": there.name, "peers": peers, "why": policy.why, "selector": selector}
            yield wrong("IPsec", text, policy.text, causes.IPSEC_POLICY, **values)


def _is_on_way(facts: Facts, policy: PolicyFacts, mine: str) -> bool:
    """True if a policy selects packets of the subject; ``in`` is about packets to the router itself."""
    if policy.direction == "in" and facts.subject.kind not in (Kind.OWN, Kind.ROUTER):
        return False
    return facts.path.is_whole or covers_any(mine, facts.path.addresses)
