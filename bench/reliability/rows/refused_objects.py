"""Promises about objects that the kernel refuses, and about jobs that stop half way."""

from __future__ import annotations

from bench.reliability import refused_objects, stopped_jobs
from bench.reliability.api import Promise

TESTS = ("tests/unit/test_stopped_jobs.py", "tests/packets/test_stopped_jobs.py")
SAMPLES = "tests/functional/test_reliability.py"

PROMISES = (
    Promise(
        name="refused-objects",
        text="An object that the kernel refuses takes nothing along that does not depend on it; all are named.",
        kept_by="refused objects are collected, what needs them is skipped (state/dependency.py, state/missing.py)",
        tests=(*TESTS, f"{SAMPLES}::test_what_does_not_depend_on_a_refused_object_is_made"),
        measure=refused_objects.measure,
    ),
    Promise(
        name="stopped-jobs",
        text="A job that stops at any write leaves each address on its old path or on the new one.",
        kept_by="make before lead, over all namespaces (reconcile/executor.py, state/order.py, state/table_steps.py)",
        tests=(*TESTS, f"{SAMPLES}::test_new_connections_work_after_a_stop_at_any_write"),
        measure=stopped_jobs.measure,
    ),
)
