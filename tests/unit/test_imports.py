"""What a process loads: pyroute2 costs 0.15 s and 23 MB, which commands that ask a running daemon do not pay."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import sys
from {module} import main
try:
    main({arguments})
except SystemExit:
    pass
print("loaded:", *sorted(name for name in {heavy} if name in sys.modules))
"""
HEAVY = ("pyroute2", "eventlet", "oslo_messaging", "ovsdbapp")


def loaded(module: str, *arguments: str) -> str:
    program = PROGRAM.format(module=module, arguments=list(arguments), heavy=HEAVY)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    "arguments", [["status"], ["history"], ["check", "/dev/null"], ["show"], ["--help"], ["--version"]]
)
def test_commands_that_need_no_kernel_load_no_netlink_library(arguments: list[str]) -> None:
    assert loaded("dvr_agent.cli.ctl", "--config-file", "/dev/null", *arguments) == "loaded:"


def test_the_unprivileged_metadata_proxy_loads_none_of_them() -> None:
    assert loaded("dvr_agent.metadata_proxy.main", "--help") == "loaded:"


def test_a_plan_loads_pyroute2_alone() -> None:
    assert loaded("dvr_agent.cli.ctl", "--config-file", "/dev/null", "plan", "/dev/null") == "loaded: pyroute2"
