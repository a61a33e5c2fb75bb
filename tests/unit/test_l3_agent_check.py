"""The other agent is recognised among the processes of a host, and nothing else is taken for it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dvr_agent.daemon.l3_agent_check import check_no_l3_agent, is_l3_agent
from dvr_agent.errors import LockedError


@pytest.mark.parametrize(
    "command",
    [
        ["/usr/bin/neutron-l3-agent", "--config-file", "/etc/neutron/neutron.conf"],
        ["/usr/bin/python3", "/usr/bin/neutron-l3-agent", "--config-file=/etc/neutron/neutron.conf"],
        ["/opt/venv/bin/python3.11", "-W", "ignore", "-s", "/opt/venv/bin/neutron-l3-agent"],
        ["neutron-l3-agent (/usr/bin/python3 /usr/bin/neutron-l3-agent --config-file /etc/neutron/neutron.conf)"],
        ["neutron-l3-agent: worker"],
    ],
)
def test_the_other_agent(command: list[str]) -> None:
    assert is_l3_agent(command)


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["vim", "/usr/bin/neutron-l3-agent"],
        ["systemctl", "stop", "neutron-l3-agent"],
        ["/usr/bin/python3", "/usr/bin/ansible", "neutron-l3-agent"],
        ["/usr/bin/python3", "/usr/bin/neutron-dhcp-agent"],
        ["neutron-l3-agent-exporter"],
        ["/usr/bin/python3"],
        ["haproxy", "-f", "/var/lib/neutron/ns-metadata-proxy/x.conf"],
        ["/usr/bin/python3", "/usr/local/bin/dvr-agent", "--config-file", "/etc/neutron/l3_agent.ini"],
    ],
)
def test_others(command: list[str]) -> None:
    assert not is_l3_agent(command)


class FakeProc:
    """A ``/proc`` with what is looked at."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.process("self", "net:[1]", "dvr-agent")
        (root / "uptime").write_text("1")

    def process(self, name: str, network: str, *command: str) -> Path:
        place = self.root / name
        (place / "ns").mkdir(parents=True)
        (place / "ns" / "net").symlink_to(network)
        (place / "cmdline").write_text("\0".join(command) + "\0")
        return place


def test_it_is_refused_with_its_process_and_what_to_do(tmp_path: Path) -> None:
    FakeProc(tmp_path).process("4711", "net:[1]", "/usr/bin/python3", "/usr/bin/neutron-l3-agent")
    with pytest.raises(LockedError, match=r"process 4711.*systemctl stop neutron-l3-agent"):
        check_no_l3_agent(tmp_path)


def test_one_on_another_emulated_host_does_not_matter(tmp_path: Path) -> None:
    FakeProc(tmp_path).process("4711", "net:[2]", "/usr/bin/neutron-l3-agent")
    check_no_l3_agent(tmp_path)


def test_we_are_not_our_own_rival(tmp_path: Path) -> None:
    FakeProc(tmp_path).process(str(os.getpid()), "net:[1]", "neutron-l3-agent")
    check_no_l3_agent(tmp_path)


def test_processes_that_vanish_while_we_look_are_gone(tmp_path: Path) -> None:
    proc = FakeProc(tmp_path)
    shutil.rmtree(proc.process("4711", "net:[1]", "/usr/bin/neutron-l3-agent") / "ns")
    (proc.process("4712", "net:[1]", "/usr/bin/neutron-l3-agent") / "cmdline").unlink()
    check_no_l3_agent(tmp_path)


def test_a_real_process_is_found_and_after_its_end_it_is_not(tmp_path: Path) -> None:
    program = tmp_path / "neutron-l3-agent"
    program.write_text("import sys\nprint(flush=True)\nsys.stdin.read()\n")
    words = [sys.executable, str(program)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(LockedError, match=f"process {process.pid}"):
            check_no_l3_agent()
        process.communicate()
    check_no_l3_agent()
