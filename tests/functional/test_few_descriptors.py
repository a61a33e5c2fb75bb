"""A process that runs out of descriptors, at whatever point: errors of our own that are tried again, nothing else."""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import os
import resource
from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from dvr_agent.desired.host_settings import AgentMode, HostSettings
from dvr_agent.errors import DvrError, KernelError, NamespaceGoneError
from dvr_agent.kernel import netns
from dvr_agent.model.router import ExtraRoute
from dvr_agent.reconcile.factory import make_reconciler
from dvr_agent.reconcile.statefile import PRIORITIES_FILE
from dvr_agent.sources import files
from dvr_agent.sources.api import Changed, Failed, Synced
from dvr_agent.sources.directory import DirectorySource
from tests.support import lab
from tests.support.daemon_site import RECORDED
from tests.support.small_routers import EXTERNAL, HOST, fip, make_router
from tests.support.waiting import wait_for

MOST = 24
"""More than any job needs at a time."""


@contextlib.contextmanager
def descriptors(left: int) -> Iterator[None]:
    """The process can open so many files more, and no other."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = [os.open("/dev/null", os.O_RDONLY)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(taken[0] + 64, 128), limits[1]))
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.dup(taken[0]))
        for fd in taken[len(taken) - left :]:
            os.close(fd)
        del taken[len(taken) - left :]
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for fd in taken:
            os.close(fd)


def test_the_way_into_a_namespace_is_an_error_of_the_kernel(host: lab.Host) -> None:
    lab.run("ip", "netns", "add", "there")
    for left in (0, 1):
        with descriptors(left), pytest.raises(KernelError) as caught, netns.entered("there"):
            pass
        assert not isinstance(caught.value, NamespaceGoneError)
        assert caught.value.code == errno.EMFILE

    def two_are_enough() -> bool:
        with contextlib.suppress(KernelError), descriptors(2), netns.entered("there"):
            return True
        return False

    wait_for(two_are_enough)  # a thread that an earlier test of the process has left may open a file, too


@pytest.mark.parametrize("there", [True, False])
def test_whatever_is_missing_a_job_fails_cleanly_and_the_next_one_is_enough(
    host: lab.Host, tmp_path: Path, there: bool
) -> None:
    host.bridge("br-ext")
    router = replace(make_router("one", 1), floating_ips=(fip("203.0.113.100", "10.1.0.9"),))
    reconciler = make_reconciler(HostSettings(HOST, AgentMode.DVR_SNAT), {EXTERNAL: "br-ext"}, tmp_path)
    reconciler.load()
    other = replace(router, routes=(ExtraRoute(ip_network("192.0.2.0/24"), ip_address("10.1.0.9")),))
    jobs: list[Callable[[], object]] = [
        lambda: reconciler.planner.plan(router),
        lambda: reconciler.reconcile(other),
        lambda: reconciler.remove_stale({router.id}),
        lambda: reconciler.remove(router.id),
    ]
    failed = 0
    for left, job in itertools.product(range(MOST), jobs):
        if there:
            reconciler.reconcile(router)
        else:
            reconciler.remove(router.id)
        with descriptors(left):
            try:
                job()
                reconciler.flush()
            except DvrError as exc:
                failed += 1
                assert "does not exist" not in str(exc)  # noqa: PT017 - most of them do not fail
    assert failed
    reconciler.reconcile(router)
    assert not reconciler.planner.plan(router)
    assert not reconciler.remove_stale({router.id}).plan


def test_a_document_that_cannot_be_opened_now_is_no_bad_document(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(RECORDED))
    directory = os.open(tmp_path, os.O_RDONLY)
    try:
        with descriptors(0), pytest.raises(OSError, match=r"a\.json cannot be read: Too many open files"):
            files.read("a.json", directory, 1 << 24)
    finally:
        os.close(directory)


def test_documents_that_cannot_be_read_now_are_a_trouble_of_the_source_and_come_with_the_next_scan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.json").write_text(json.dumps(RECORDED))
    source = DirectorySource(str(tmp_path), 3600, 1 << 24)
    read = files.read

    def refuse(name: str, directory: int, max_size: int) -> files.FileContent | None:
        with descriptors(0):
            return read(name, directory, max_size)

    with monkeypatch.context() as patch:
        patch.setattr(files, "read", refuse)
        (event,) = source.rescan()
        assert isinstance(event, Failed)
        assert "a.json cannot be read: Too many open files" in str(event.error)
    changed, synced = source.rescan()
    assert isinstance(changed, Changed)
    assert isinstance(synced, Synced)
    source.close()


def test_state_files_that_cannot_be_read_now_are_read_later(host: lab.Host, tmp_path: Path) -> None:
    (tmp_path / PRIORITIES_FILE).write_text("203.0.113.5,40000\n")
    for left in range(4):
        reconciler = make_reconciler(HostSettings(HOST, AgentMode.DVR), {}, tmp_path)
        with descriptors(left):
            try:
                reconciler.load()
            except DvrError as exc:
                assert "Too many open files" in str(exc)  # noqa: PT017 - with enough of them it works
                continue
        reconciler.flush()
        assert (tmp_path / PRIORITIES_FILE).read_text() == "203.0.113.5,40000\n"
