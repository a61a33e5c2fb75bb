"""Promises about what many routers cost."""

from __future__ import annotations

from bench.reliability import cost
from bench.reliability.api import Promise

PROMISES: tuple[Promise, ...] = (
    Promise(
        "growth",
        "An audit and a restart with 1,000 routers on one external network (dvr_snat) take at most four times the "
        "processor time of those with 300; one router of the later 700 is built for at most 1.3 times the time of one "
        "of the first 300.",
        "what the kernel has in one list for the whole host is not walked once per router: parameters by instances of "
        "procfs of our own (`kernel/procfs.py`), neighbours one by one (`kernel/netlink/neighbour.py`), fip namespaces "
        "once per round (`reconcile/fip_slices.py`)",
        ("tests/functional/test_cost.py", "tests/functional/test_procfs.py", "tests/unit/test_audit_reads.py"),
        cost.measure_growth,
    ),
    Promise(
        "idle",
        "A daemon with 300 or 1,000 routers in sync takes less than 0.5 % of a processor between audits, and less than "
        "1 % with them.",
        "events instead of polling; see the promise above for the audits",
        ("tests/functional/test_cost.py",),
        cost.measure_idle,
    ),
)
