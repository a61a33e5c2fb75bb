"""Promises about faults: of calls, of processes, of files."""

from __future__ import annotations

from bench.reliability import crashes, fake_faults, injection, state_files
from bench.reliability.api import Promise

PROMISES: tuple[Promise, ...] = (
    Promise(
        "every-call-fails",
        "Whichever call to the kernel fails, and with whichever error: the job is done, or the router is degraded "
        "with the reason; other routers stay in sync; the next try heals it.",
        "every try observes first and writes the difference (`reconcile/reconciler.py`, `reconcile/executor.py`); "
        "foreign errors become `KernelError` at the border of `kernel`",
        ("tests/unit/test_reliability_faults.py::test_a_job_whose_call_fails_is_degraded_and_heals",),
        fake_faults.measure,
    ),
    Promise(
        "killed-anywhere",
        "Killed (SIGKILL) at any write while it builds, changes or removes a router, the agent completes it at the "
        "next start; nothing is left over, and living routers lose no packet.",
        "the kernel is the truth: a start reads all of it; tables are committed whole, files are renamed whole "
        "(`reconcile/inventory.py`, `kernel/iptables/`, `securefiles.py`)",
        (
            "tests/functional/test_reliability.py::test_a_killed_agent_completes_what_it_began",
            "tests/functional/test_disturbed_hosts.py",
        ),
        crashes.measure,
    ),
    Promise(
        "syscalls-fail",
        "Whichever system call of the living agent fails, it lives on, says so where it matters, and heals by itself; "
        "living routers lose no packet.",
        "foreign errors become errors of this project at the border (`kernel`, `attach`, `securefiles.py`); a failed "
        "job is repeated with back-off (`daemon/schedule.py`)",
        ("tests/functional/test_reliability.py::test_system_calls_that_fail_are_survived",),
        injection.measure,
    ),
    Promise(
        "broken-state-files",
        "Whatever is in the place of a state file: the agent starts, changes nothing in the kernel, says it in one "
        "line, and writes the file anew.",
        "the kernel's values win over the files' (`reconcile/allocations.py`); `securefiles.py` reads nothing but a "
        "regular file up to a limit, and replaces it as a whole",
        ("tests/functional/test_reliability.py::test_a_broken_state_file_changes_nothing_and_is_written_anew",),
        state_files.measure,
    ),
)
