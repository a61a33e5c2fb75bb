"""Kernel parameters are read and written through instances of procfs that are replaced before they grow."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

import pytest

from dvr_agent import libc
from dvr_agent.kernel import procfs, sysctl
from dvr_agent.kernel.api import WriteCounters
from dvr_agent.kernel.namespaces import RealNamespaces
from dvr_agent.kernel.netns import entered
from dvr_agent.state.sysctl import Sysctl
from tests.support import lab

KEY = "ipv4/conf/all/arp_ignore"


@pytest.fixture(autouse=True)
def new_instance() -> Iterator[None]:
    """Each test begins without an instance, and leaves none that it has spoilt."""
    procfs._thread.instance = None
    yield
    procfs._thread.instance = None


@pytest.fixture
def names(host: lab.Host) -> list[str]:
    namespaces = RealNamespaces(WriteCounters())
    for name in ("a", "b"):
        namespaces.create(name)
    return ["a", "b"]


def values(names: list[str]) -> list[str | int]:
    found: list[str | int] = []
    for name in names:
        with entered(name):
            found += sysctl.read_here([sysctl.ROOT + KEY])
    return found


def test_one_instance_shows_each_namespace_its_own_parameters(names: list[str]) -> None:
    counters = WriteCounters()
    for name, value in zip(names, "12", strict=True):
        sysctl.write(name, [Sysctl(KEY, value)], counters)
    assert values(names) == ["1", "2"]
    assert procfs._thread.instance is not None
    assert procfs._thread.instance.left == procfs.WINDOWS - 4


def test_instances_of_many_namespaces_leave_no_descriptor(names: list[str]) -> None:
    values(names)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(procfs.WINDOWS):
        values(names)
    assert len(os.listdir("/proc/self/fd")) == before


def test_no_instance_holds_what_others_have_looked_at(names: list[str]) -> None:
    values(names)
    first = procfs._thread.instance
    for _ in range(procfs.WINDOWS):
        values(names[:1])
    assert procfs._thread.instance is not first


def test_a_removed_namespace_is_not_kept_by_an_instance(host: lab.Host, names: list[str]) -> None:
    values(names)
    namespaces = RealNamespaces(WriteCounters())
    namespaces.remove("a")
    namespaces.create("a")
    assert values(["a"]) == ["0"]


def test_proc_serves_where_an_instance_is_refused(names: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(kind: str) -> int:
        raise OSError(errno.EPERM, kind)

    monkeypatch.setattr(libc, "mount_detached", refused)
    sysctl.write("b", [Sysctl(KEY, "1")], WriteCounters())
    assert values(names) == ["0", "1"]


def test_a_lack_of_descriptors_is_the_answer_for_each_parameter(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused() -> procfs.ProcInstance:
        raise OSError(errno.EMFILE, "no descriptor")

    monkeypatch.setattr(procfs, "current", refused)
    assert sysctl.read_here([sysctl.ROOT + KEY]) == [errno.EMFILE]
