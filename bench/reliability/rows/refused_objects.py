"""Promises about objects that the kernel refuses, and about jobs that stop half way."""

from __future__ import annotations

from bench.reliability.api import Promise

PROMISES = (
    Promise(
        name="refused-objects",
        text="An object that the kernel refuses takes nothing along that does not depend on it; all are named.",
        kept_by="refused objects are collected, what needs them is skipped (state/dependency.py, state/missing.py)",
        tests=("tests/unit/test_stopped_jobs.py", "tests/packets/test_stopped_jobs.py"),
    ),
    Promise(
        name="stopped-jobs",
        text="A job that stops at any write leaves each address on its old path or on the new one.",
        kept_by="make before lead, over all namespaces (reconcile/executor.py, state/order.py, state/table_steps.py)",
        tests=("tests/unit/test_stopped_jobs.py", "tests/packets/test_stopped_jobs.py"),
    ),
)
