"""The network namespace of a process that must not be looked into."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyroute2.netlink.rtnl import RTM_GETNSID, RTM_NEWNSID
from pyroute2.netlink.rtnl.nsidmsg import nsidmsg

from dvr_agent.kernel.namespace_of_process import inode_of_process
from dvr_agent.kernel.netlink import nsid
from tests.support import lab
from tests.support.waiting import wait_for

NAMES = ("here", "there", "nobody")


@pytest.fixture
def processes(host: lab.Host, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, int]]:
    """Name of a namespace → a process in it; the kernel says of all that they are other users' and not to be seen."""
    started = {}
    for name in NAMES:
        lab.run("ip", "netns", "add", name)
        words = ["ip", "netns", "exec", name, "sleep", "600"]
        started[name] = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    real = os.stat

    def closed(path: object, *words: object, **more: object) -> os.stat_result:
        if str(path).startswith("/proc/"):
            if not os.path.lexists(str(path)):
                raise FileNotFoundError(path)
            raise PermissionError(path)
        return real(path, *words, **more)  # type: ignore[arg-type]

    for process in started.values():
        command = Path(f"/proc/{process.pid}/cmdline")
        wait_for(lambda command=command: command.read_bytes().startswith(b"sleep\0"))
    monkeypatch.setattr(os, "stat", closed)
    yield {name: process.pid for name, process in started.items()}
    for process in started.values():
        process.kill()
        process.wait()


@pytest.mark.parametrize("likely", ["", "here", "there", "gone"])
def test_it_is_found_among_the_named_ones(processes: dict[str, int], likely: str) -> None:
    for name in NAMES:
        fd = os.open(f"/run/netns/{name}", os.O_RDONLY)
        assert inode_of_process(processes[name], likely) == os.fstat(fd).st_ino
        os.close(fd)


def test_one_without_a_name_is_none_of_them(processes: dict[str, int]) -> None:
    lab.run("ip", "netns", "del", "nobody")
    assert inode_of_process(processes["nobody"]) == 0
    assert inode_of_process(os.getpid()) == 0


def test_a_process_that_has_ended_is_told(processes: dict[str, int]) -> None:
    done = subprocess.Popen(["true"])
    done.wait()
    with pytest.raises(FileNotFoundError):
        inode_of_process(done.pid)


def test_numbers_are_those_of_the_library() -> None:
    attributes = {name: number for number, (name, *_) in enumerate(nsidmsg.nla_map)}
    assert (nsid.RTM_NEWNSID, nsid.RTM_GETNSID) == (RTM_NEWNSID, RTM_GETNSID)  # type: ignore[attr-defined]
    names = ("NETNSA_NSID", nsid.NETNSA_PID, nsid.NETNSA_FD)
    assert [attributes[name] for name in names] == [nsid.NSID.number(name) for name in names]
