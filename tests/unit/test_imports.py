"""What a process loads: pyroute2 costs 0.15 s and 23 MB, which commands that ask a running daemon do not pay."""

from __future__ import annotations

import os
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
HEAVY = ("pyroute2", "eventlet", "oslo_messaging", "ovs")


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


AT_START = """
import sys
from dvr_agent.cli import agent
try:
    agent.main(["--help"])
except SystemExit:
    pass
import dvr_agent.daemon.service
import dvr_agent.reconcile.factory, dvr_agent.services.factory, dvr_agent.sources.factory
from dvr_agent.kernel.iptables.libiptc import TablesUnavailableError, library
try:
    library(4)
except TablesUnavailableError:
    pass
print("loaded:", *sorted(name for name in {late} if name in sys.modules))
"""
LATE = (
    *("dns", "jinja2", "prometheus_client", "oslo_reports", "oslo_messaging"),
    *("pyroute2.ndb", "rfc3986.uri", "html.entities", "setuptools", "distutils"),
)
"""Nothing of these is needed by the first job; they took half of the time until then."""


def python(program: str, **environ: str) -> str:
    words = [sys.executable, "-c", program]
    return subprocess.run(words, capture_output=True, text=True, check=True, env={**os.environ, **environ}).stdout


def test_the_daemon_starts_without_what_its_first_job_does_not_need() -> None:
    assert python(AT_START.format(late=LATE)).splitlines()[-1] == "loaded:"


def test_a_package_of_which_parts_were_loaded_has_all_its_names_when_they_are_asked_for() -> None:
    program = """
import sys
from dvr_agent import late_packages
late_packages.install()
late_packages.install()
from pyroute2.netlink.rtnl import RTM_NEWLINK
from pyroute2 import netlink
assert "pyroute2.iproute" not in sys.modules
import pyroute2
assert not hasattr(pyroute2, "nothing")
from pyroute2 import IPRoute
assert IPRoute.__module__.startswith("pyroute2.iproute") and pyroute2.netlink is netlink
import rfc3986
assert rfc3986.uri_reference("http://host/path").path == "/path"
import html
assert "html.entities" not in sys.modules and html.escape("<") == "&lt;"
late_packages.install()
assert not any(type(one).__module__ == "dvr_agent.late_packages" for one in sys.meta_path)
print("fine")
"""
    assert python(program) == "fine\n"


@pytest.mark.parametrize("value", ["", "no"])
def test_the_environment_is_as_before_when_eventlet_is_loaded(value: str) -> None:
    program = "import os; from dvr_agent.daemon import eventlet_shim; print(os.environ['EVENTLET_NO_GREENDNS'])"
    assert python(program, EVENTLET_NO_GREENDNS=value) == f"{value}\n"


def test_garbage_is_collected_again_when_a_start_fails() -> None:
    program = """
import gc
from dvr_agent.cli import agent
print(agent.main(["--config-file", "/nonexistent"]), gc.isenabled())
"""
    assert python(program) == "78 True\n"
