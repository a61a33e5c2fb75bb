"""systemd's file descriptor store: what goes into it, and comes back to the next process."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from dvr_agent import notify
from dvr_agent.control.fd_store import NAME_LENGTH, FdStore
from dvr_agent.notify import Notifier
from tests.support.service_manager import ServiceManager
from tests.support.waiting import wait_for

VERSION = 3
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServiceManager]:
    made = ServiceManager(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", made.address)
    yield made
    made.close()


def next_process(manager: ServiceManager, monkeypatch: pytest.MonkeyPatch, version: int = VERSION) -> FdStore:
    """Return the store of a process that gets what is stored."""
    passed = [(name, os.dup(one)) for name, descriptors in manager.stored.items() for one in descriptors]
    numbers = [number for _, number in passed]
    first = 700
    for at, number in enumerate(numbers):
        os.dup2(number, first + at)
        os.close(number)
    monkeypatch.setattr(notify, "FIRST", first)
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.setenv("LISTEN_FDS", str(len(numbers)))
    monkeypatch.setenv("LISTEN_FDNAMES", ":".join(name for name, _ in passed))
    return FdStore(Notifier(), version)


def test_a_question_comes_back_with_its_descriptors_however_often(
    manager: ServiceManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = socket.socketpair()
    with here:
        with there:
            FdStore(Notifier(), VERSION).put({"do": "serve", "router": "r"}, [there.fileno()])
        for _ in range(2):
            manager.wait_for_stored(1)
            ((name, question, descriptors),) = next_process(manager, monkeypatch).restored()
            assert name in manager.stored
            assert question == {"do": "serve", "router": "r", "version": VERSION}
            here.send(b"x")
            assert [os.read(one, 9) for one in descriptors] == [b"x"]
            for one in descriptors:
                os.close(one)


def test_the_same_question_is_stored_once_and_a_changed_one_in_its_place(
    manager: ServiceManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FdStore(Notifier(), VERSION)
    here, there = socket.socketpair()
    with here, there:
        first = store.put({"do": "serve"}, [here.fileno()])
        assert store.put({"do": "serve"}, [os.dup(here.fileno())], instead_of=first) == first
        second = store.put({"do": "serve"}, [there.fileno()], instead_of=first)
        assert second != first
        wait_for(lambda: list(manager.stored) == [second])
        later = next_process(manager, monkeypatch)
        assert later.put({"do": "serve"}, [there.fileno()]) == second
        later.remove(second)
        later.remove(second)
        wait_for(lambda: not manager.stored)
    assert [lines[0] for lines in manager.heard] == ["FDSTORE=1", "FDSTORE=1", "FDSTOREREMOVE=1", "FDSTOREREMOVE=1"]


def test_what_is_removed_is_closed_by_systemd_first(manager: ServiceManager) -> None:
    """systemd up to 253 closes in process 1, and the last close of a packet socket takes some ten milliseconds."""
    store = FdStore(Notifier(), VERSION)
    name = store.put({"do": "serve"}, [])
    store.remove(name)
    store.wait_until_handled()
    assert [lines[0] for lines in manager.heard] == ["FDSTORE=1", "FDSTOREREMOVE=1", "BARRIER=1"][: len(manager.heard)]
    assert not manager.stored


def test_names_fit_into_one_environment_variable() -> None:
    """systemd passes the names of all stored descriptors in LISTEN_FDNAMES, and execve(2) takes 128 KiB."""
    for unit in ("dvr-vrrp", "dvr-metadata-proxy"):
        lines = (ROOT / "etc" / f"{unit}.service").read_text().splitlines()
        (most,) = [line for line in lines if line.startswith("FileDescriptorStoreMax=")]
        assert int(most.partition("=")[2]) * (NAME_LENGTH + 1) < 128 * 1024


def test_a_question_of_another_version_and_a_stranger_cannot_be_read(
    manager: ServiceManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    FdStore(Notifier(), VERSION).put({"do": "serve"}, [])
    manager.wait_for_stored(1)
    manager.stored["stranger"] = [os.open("/dev/null", os.O_RDONLY)]
    manager.stored["empty"] = [socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)[0].detach()]
    found = list(next_process(manager, monkeypatch, VERSION + 1).restored())
    assert [one.question for one in found] == [None, None, None]


def test_what_is_for_another_process_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    monkeypatch.setenv("LISTEN_PID", str(os.getppid()))
    monkeypatch.setenv("LISTEN_FDS", "2")
    store = FdStore(Notifier(), VERSION)
    assert list(store.restored()) == []
    assert "LISTEN_FDS" not in os.environ


def test_without_systemd_nothing_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    store = FdStore(Notifier(), VERSION)
    assert store.put({"do": "serve"}, [], instead_of="") == ""
    store.remove("")
    store.flush()
    store.wait_until_handled()


def test_what_a_busy_systemd_does_not_take_is_sent_later_and_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as busy:
        busy.bind(address)
        busy.setblocking(False)
        store = FdStore(Notifier(), VERSION)
        names = [store.put({"do": "serve", "router": str(number)}, []) for number in range(2000)]
        heard: list[str] = []
        while len(heard) < len(names):
            data, descriptors, _, _ = socket.recv_fds(busy, 4096, 9)
            heard.append(data.decode().partition("FDNAME=")[2])
            assert len(descriptors) == 1
            os.close(descriptors[0])
            store.flush()
    assert heard == names
