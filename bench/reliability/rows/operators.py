"""Promises about what operators see, and about other versions."""

from __future__ import annotations

from bench.reliability import hostile_input, logs, versions
from bench.reliability.api import Promise

PROMISES: tuple[Promise, ...] = (
    Promise(
        "logs-alone",
        "The lines of the log at INFO and above lead to the cause: they name the object and the reason. Secrets of "
        "options, documents, messages and requests stand in no log, status, report, error or state file.",
        "errors carry document, key and value, or namespace, object and errno (`errors.py`), and of objects only the "
        "keys (`model/reader.py`); options with secrets are never logged",
        ("tests/functional/test_reliability.py::test_the_log_alone_leads_to_the_cause_and_tells_no_secret",),
        logs.measure,
    ),
    Promise(
        "two-versions",
        "Release 0.2.0 and this version take over from each other: nothing changes in the kernel.",
        "the kernel is the truth (`reconcile/inventory.py`); names, marks and state files are a contract "
        "(docs/dataplane.md)",
        ("tests/functional/test_reliability.py::test_the_last_release_and_this_version_change_nothing_of_each_other",),
        versions.measure,
    ),
    Promise(
        "hostile-input",
        "Whatever is in documents, state files, casts and answers of the server, and admin requests: an error with a "
        "reason, never an exception that escapes.",
        "all input is parsed into types that cannot hold a bad value (`model/parse.py`, `sources/neutron/wire`, "
        "`desired/allocation.py`)",
        (
            "tests/unit/test_hostile_documents.py",
            "tests/unit/test_neutron_mutated.py",
            "tests/functional/test_mutated_documents.py",
            "tests/functional/test_reliability.py::test_hostile_input_leads_to_no_escaped_exception",
        ),
        hostile_input.measure,
    ),
)
