"""The agent's own tests on the kernel that operators run: contract, packets, Open vSwitch's kernel datapath.

The file comes last of all: until then they run in the background.
"""

from __future__ import annotations

import pytest

from tests_vm.suites import SUITES, Suites


@pytest.mark.parametrize("name", list(SUITES))
def test_suite_passes(suites: Suites, name: str) -> None:
    if not suites.arguments(name):
        pytest.skip("only with --full")
    result = suites.result(name)
    assert not result.failed, "\n\n".join(f"{test}\n{text}" for test, text in result.failed.items())
    assert result.passed, "no test has run"


@pytest.mark.parametrize("name", list(SUITES))
def test_suite_finds_all_it_needs(suites: Suites, name: str) -> None:
    """A skipped test would hide what bindep.txt, or this kernel, lacks."""
    if not suites.arguments(name):
        pytest.skip("only with --full")
    assert not suites.result(name).skipped
