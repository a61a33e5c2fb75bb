"""Promises about load: many routers, many changes, many files."""

from __future__ import annotations

from bench.reliability import churn, many_files
from bench.reliability.api import Promise

PROMISES: tuple[Promise, ...] = (
    Promise(
        "churn",
        "1,000 routers with 50 changes a second for five minutes: in sync at the end; memory flat within 5 %; no "
        "descriptor, thread or namespace more; the hub at most 100 ms later than a thread of this machine.",
        "one job per router in the queue, whatever comes meanwhile (`daemon/work_queue.py`); the hub waits for no "
        "kernel call (`daemon/worker.py`)",
        ("tests/functional/test_reliability.py::test_many_changes_a_second_end_in_sync_and_nothing_grows",),
        churn.measure,
    ),
    Promise(
        "many-files",
        "100,000 files in the directory, 20,000 of them bad: ready, each bad one is told with its name, and the hub "
        "answers while they are read.",
        "files are read in the worker thread (`sources/directory.py`, `daemon/source_reader.py`)",
        ("tests/functional/test_reliability.py::test_the_hub_answers_while_many_files_are_read",),
        many_files.measure,
    ),
)
