"""Promises about faults: of calls, of processes, of files."""

from __future__ import annotations

from bench.reliability import fake_faults
from bench.reliability.api import Promise

PROMISES: tuple[Promise, ...] = (
    Promise(
        "every-call-fails",
        "Whichever call to the kernel fails, and with whichever error: the job is done, or the router is degraded with "
        "the reason; other routers stay in sync; the next try heals it.",
        "every try observes first and writes the difference (`reconcile/reconciler.py`, `reconcile/executor.py`); "
        "foreign errors become `KernelError` at the border of `kernel`",
        ("tests/unit/test_reliability_faults.py::test_a_job_whose_call_fails_is_degraded_and_heals",),
        fake_faults.measure,
    ),
)
