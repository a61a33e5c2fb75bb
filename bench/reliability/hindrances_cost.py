"""What looking for foreign hindrances adds to an audit of routers in sync: a ratio within one run."""

from __future__ import annotations

from bench import states
from bench.reliability import cost
from bench.reliability.api import Figure, Options
from bench.reliability.processor_time import seconds_of
from dvr_agent.reconcile.hindrances import RouterHindrances
from dvr_agent.reconcile.memory import ROUNDS

LIMIT = 1.03
"""Audits that look for hindrances ÷ audits that do not."""


class _Blind(RouterHindrances):
    """Finds nothing, at no cost."""

    def find(self, *_arguments: object) -> tuple[str, ...]:
        return ()


def measure(options: Options) -> Figure:
    """Measure audits with and without, in turns: of ROUNDS audits in a row one also looks for stale neighbours."""
    count, turns = (5, 2) if options.quick else (100, 4)
    cost.prepare()
    routers = states.parse(states.raw_documents(cost.MODE, count))
    reconciler = cost.make()
    reconciler.load()
    cost.build(reconciler, routers)
    cost.audit(reconciler, routers)
    planner = reconciler.planner
    looking, blind = planner.hindrances, _Blind(reconciler.kernel)
    seeing = unseeing = 0.0
    found: tuple[str, ...] = ()

    def look() -> None:
        nonlocal found
        found = planner.host_hindrances()
        cost.audit(reconciler, routers)

    for _ in range(turns):
        planner.hindrances = looking
        seeing += seconds_of(look, ROUNDS)
        planner.hindrances = blind
        unseeing += seconds_of(lambda: cost.audit(reconciler, routers), ROUNDS)
    ratio = seeing / unseeing
    text = f"an audit of {count} routers in sync takes {ratio:.2f} times the processor time of one that does not look"
    return Figure(text, ratio <= LIMIT and not found, found)
