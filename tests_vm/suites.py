"""Whole test suites of the agent in a machine, one after the other, while other tests run outside.

They run by ``make test``, as README has it, in the tree that bindep.txt alone has furnished: a program that a test
calls and bindep.txt does not name is missing here.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from tests.support.computer import Computer
from tests_vm.machine import Machine

LIMIT = 3600.0
"""Seconds for one suite; the machine is several times slower than the one that emulates it."""


@dataclass(frozen=True)
class Suite:
    """Tests that run in the machine.

    :ivar usual: arguments for pytest, a part that fits into CI
    :ivar whole: arguments for pytest with ``--full``
    :ivar before: words before the command: environment, rights
    """

    usual: str
    whole: str
    before: tuple[str, ...] = ()


CONTRACT = "tests/contract tests/functional/test_limits.py --ignore=tests/contract/test_journal.py"
"""This kernel has the police filters of neutron-l3-agent.  systemd-python is tried by make test-debian."""
SUITES = {
    "contract": Suite(CONTRACT, CONTRACT),
    "openvswitch": Suite(
        "tests/functional/test_openvswitch.py -k internal",
        "tests/functional/test_openvswitch.py tests/functional/test_openvswitch_daemon.py "
        "tests/functional/test_openvswitch_faults.py tests/oracle/test_reference_state_ovs.py",
        ("env", "DVR_TEST_OVS_DATAPATH=system"),
    ),
    "packets-with-the-rights-of-the-unit": Suite(
        "",
        "tests/packets",
        ("/root/dvr-agent/tools/in-unit.sh", "--harness"),
    ),
    "everything": Suite("", "tests"),
}
MODULES = ("openvswitch",)
"""Loaded beforehand, as Open vSwitch's service does it."""


@dataclass(frozen=True)
class Result:
    """How a suite ended."""

    passed: int
    failed: dict[str, str]
    skipped: dict[str, str]
    seconds: float

    def __str__(self) -> str:
        return f"{self.passed} passed, {len(self.failed)} failed, {len(self.skipped)} skipped in {self.seconds:.0f} s"


def parse(xml: str) -> Result:
    """
    :param xml: what pytest wrote with ``--junitxml``
    """
    passed, failed, skipped = 0, {}, {}
    root = ElementTree.fromstring(xml)
    for case in root.iter("testcase"):
        name = f"{case.get('classname')}::{case.get('name')}"
        bad = [one for kind in ("failure", "error") for one in case.iter(kind)]
        skip = case.find("skipped")
        if bad:
            failed[name] = "\n".join(one.text or one.get("message") or "" for one in bad)
        elif skip is not None:
            skipped[name] = skip.get("message", "")
        else:
            passed += 1
    return Result(passed, failed, skipped, sum(float(one.get("time", 0)) for one in root.iter("testsuite")))


def run_tests(machine: Computer, name: str, arguments: str, before: Iterable[str] = ()) -> Result:
    """Run tests of the checkout in the machine.

    :param name: of the report
    :param arguments: for pytest
    :param before: words before the command
    """
    report = f"/root/{name}.xml"
    arguments = f"{arguments} -q -p no:cacheprovider --junitxml={report}"
    words = (*before, "make", "-C", "/root/dvr-agent", "test", "WORKERS=0", f"PYTEST_ARGS={arguments}")
    done = machine.run(*words, check=False, timeout=LIMIT)
    written = machine.run("cat", report, check=False).out
    assert written, f"no test has run:\n{str(done)[-4000:]}"
    result = parse(written)
    assert done.code == 0 or result.failed, str(done)[-4000:]
    return result


class Suites:
    """All suites on one machine; each result can be waited for."""

    def __init__(self, image: Path, folder: Path, full: bool) -> None:
        self._image, self._folder, self._full = image, folder, full
        self._done = {name: threading.Event() for name in SUITES}
        self._results: dict[str, Result] = {}
        self._trouble: dict[str, str] = {}
        self._machine: Machine | None = None
        self._ending = False

    def start(self) -> None:
        threading.Thread(target=self._run_all, daemon=True).start()

    def close(self) -> None:
        self._ending = True
        if self._machine:
            self._machine.close()

    def arguments(self, name: str) -> str:
        """What pytest is told, empty if the suite has no part in this run."""
        return SUITES[name].whole if self._full else SUITES[name].usual

    def result(self, name: str) -> Result:
        """Wait for it.

        :raises AssertionError: the suite did not get so far
        """
        assert self._done[name].wait(LIMIT * len(SUITES)), f"{name} has not ended"
        assert name in self._results, self._trouble[name]
        return self._results[name]

    def results(self) -> dict[str, Result]:
        return dict(self._results)

    def _run_all(self) -> None:
        trouble = ""
        try:
            self._machine = Machine(self._image, self._folder)
            self._machine.start()
            self._machine.run("modprobe", "-a", *MODULES)
        except Exception as error:  # noqa: BLE001  whatever it is, the tests that wait are told
            trouble = f"the machine did not get ready: {error}"
        for name in SUITES:
            try:
                if not trouble and self.arguments(name) and not self._ending:
                    self._results[name] = self._run(name)
                self._trouble[name] = trouble or "not run"
            except Exception as error:  # noqa: BLE001
                self._trouble[name] = f"{name}: {error}\nthe machine's console:\n{self._console()}"
            self._done[name].set()

    def _run(self, name: str) -> Result:
        assert self._machine is not None
        return run_tests(self._machine, name, self.arguments(name), SUITES[name].before)

    def _console(self) -> str:
        return self._machine.tail() if self._machine else ""
