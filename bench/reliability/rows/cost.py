"""Promises about what many routers cost."""

from __future__ import annotations

from bench.reliability import cost, executor_share
from bench.reliability.api import Promise

PROMISES: tuple[Promise, ...] = (
    Promise(
        "growth",
        "1,000 routers on one external network (dvr_snat) against 300, in processor time: an audit at most 4 times, a "
        "restart at most 4.5 times; one of the later 700 routers is built for at most 1.8 times the time of one of the "
        "first 300 (each announcement reaches all routers on the network).",
        "what the kernel has in one list for the whole host is not walked once per router: parameters by instances of "
        "procfs of our own (`kernel/procfs.py`), neighbours one by one (`kernel/netlink/neighbour.py`), fip namespaces "
        "once per round (`reconcile/fip_slices.py`); a job of a resync sends one frame for each address "
        "(`reconcile/post_commit.py`)",
        ("tests/functional/test_cost.py", "tests/functional/test_procfs.py", "tests/unit/test_audit_reads.py"),
        cost.measure_growth,
    ),
    Promise(
        "order",
        "To put the writes of a build in an order that loses no packet, and to go on beside what is refused, takes at "
        "most 3 % of the build's processor time.",
        "the order is made of ranks, and dependencies are looked at once something was refused (`state/order.py`, "
        "`state/missing.py`, `reconcile/executor.py`)",
        ("tests/functional/test_cost.py",),
        executor_share.measure,
    ),
    Promise(
        "idle",
        "A daemon with 300 or 1,000 routers in sync takes less than 0.5 % of a processor between audits, and less than "
        "1 % with them.",
        "events instead of polling; audits are put off to a share of a processor, and packet filter tables, which have "
        "no events, are compared apart (`daemon/audits.py`, `reconcile/table_check.py`)",
        ("tests/unit/test_audits.py", "tests/unit/test_audit_reads.py", "tests/functional/test_reconciler_real.py"),
        cost.measure_idle,
    ),
)
