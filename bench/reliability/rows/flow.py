"""Promises about the flow of jobs: what waits for what, how often a router is worked on, and what is left out."""

from __future__ import annotations

from bench.reliability import foreign_hindrances, hindrances_cost, left_out
from bench.reliability.api import Promise
from bench.reliability.flow import flood_of_rewrites, removals_beside_the_lock

PROMISES = (
    Promise(
        "lock",
        "While another program holds the lock of iptables programs, jobs that need no packet filter table go on",
        "daemon/table_lock.py: a job takes the lock before its first write without waiting, or is queued again",
        ("tests/functional/test_table_lock.py",),
        removals_beside_the_lock,
    ),
    Promise(
        "flood",
        "10,000 rewrites of one document are at most 50 reconciles, and the last document is in force",
        "daemon/change_rate.py: changes as fast as jobs are collected in a window that grows to 2 s",
        ("tests/unit/test_change_rate.py", "tests/functional/test_daemon_queue.py"),
        flood_of_rewrites,
    ),
    Promise(
        "left-out",
        "What the kernel would refuse is left out before it is asked for, and named with document and value",
        "model/extra_routes.py, model/ipv6_mtu.py, model/external.py, desired/without_ipv6.py",
        (
            "tests/unit/test_omitted.py",
            "tests/functional/test_omitted.py",
            "tests/functional/test_reliability.py::test_values_that_cannot_be_are_left_out_and_named",
        ),
        left_out.measure,
    ),
    Promise(
        "foreign-hindrances",
        "Foreign settings, chains and bridges that stop a router's traffic are named once, and again when they return",
        "from what each job and audit reads anyway; nf_tables by jobs and one of ten audits "
        "(`reconcile/hindrances.py`), uplinks once per round (`attach/uplinks.py`)",
        (
            "tests/functional/test_daemon.py::test_foreign_settings_that_stop_traffic_are_named_once_until_they_are_gone",
            "tests/functional/test_hindrances.py",
            "tests/unit/test_router_records.py",
        ),
        foreign_hindrances.measure,
    ),
    Promise(
        "hindrances-cost",
        "An audit takes at most 1.03 times the processor time of one that does not look for foreign hindrances",
        "from what each audit reads anyway; nf_tables by one of ten audits, uplinks once per round",
        ("tests/functional/test_hindrances.py",),
        hindrances_cost.measure,
    ),
)
