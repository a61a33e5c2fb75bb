"""Promises about drift: changes that other programs make in the kernel."""

from __future__ import annotations

from bench.reliability import drift_quiet
from bench.reliability.api import Promise
from bench.reliability.cost import measure_between_audits
from bench.reliability.drift_times import repair_times

TEST = "tests/functional/test_drift_events.py"
REPAIR = f"{TEST}::test_each_kind_of_foreign_change_is_repaired_without_an_audit"
KEPT_BY = "one netlink socket hears all our namespaces (kernel/drift_events.py); reconcile/drift.py judges the events"

PROMISES = (
    Promise(
        "drift-10",
        "What another program changes of a router's links, addresses, routes, rules, neighbours, forwarding, bridge "
        "ports or namespaces is put right in less than a second; 10 routers",
        KEPT_BY,
        (REPAIR,),
        repair_times(10),
    ),
    Promise("drift-300", "The same with 300 routers", KEPT_BY, (REPAIR,), repair_times(300)),
    Promise(
        "drift-own-writes",
        "The agent's own writes are no drift: they lead to no further job",
        "events count only if they contradict the desired state in force (reconcile/drift.py)",
        (f"{TEST}::test_own_writes_queue_no_jobs",),
        drift_quiet.own_writes,
    ),
    Promise(
        "drift-storm",
        "A storm of foreign events leads to one audit, and the agent goes on answering",
        "events are read in batches; too many of them are thrown away (reconcile/drift.py)",
        (f"{TEST}::test_a_storm_of_foreign_events_leads_to_an_audit",),
        drift_quiet.storm,
    ),
    Promise(
        "drift-fight",
        "A program that undoes repairs again and again is named once in the log and in the status, and fought after "
        "growing waits",
        "three repairs of one object in ten minutes are a fight (daemon/fights.py)",
        (f"{TEST}::test_a_fight_is_said_once_and_fought_after_growing_waits",),
        drift_quiet.fight,
    ),
    Promise(
        "drift-idle",
        "Hearing all that costs an idle agent less than 0.5 % of a core; 300 routers",
        "the kernel filters what never concerns us (kernel/netlink/notification_filter.py)",
        (TEST,),
        measure_between_audits,
    ),
)
