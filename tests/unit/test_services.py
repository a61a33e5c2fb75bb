"""Processes in /proc, process id files, and radvd's files; nothing that needs radvd or root."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from ipaddress import IPv6Network
from pathlib import Path

import pytest

from dvr_agent.errors import ServiceError
from dvr_agent.model.router import RaMode, Router, RouterPort, Subnet
from dvr_agent.services import processes
from dvr_agent.services.radvd import RadvdService

ID = "7c1d0d9f-27f6-4d55-8e5b-3f1c2c1a8d10"
OTHER = "8d1d0d9f-27f6-4d55-8e5b-3f1c2c1a8d11"


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process that runs ``sleep`` under the name ``helper``."""
    child = subprocess.Popen(["helper", "600"], executable="/bin/sleep")
    try:
        deadline = time.monotonic() + 30
        while not processes.command_line(child.pid):  # empty for a moment, while the kernel changes programs
            assert time.monotonic() < deadline
        yield child
    finally:
        child.kill()
        child.wait()


def test_a_process_is_one_only_by_program_and_word(sleeper: subprocess.Popen[bytes]) -> None:
    found = processes.open_process(sleeper.pid, "helper", "600")
    assert found is not None
    assert (found.pid, found.network, found.ended) == (sleeper.pid, os.stat("/proc/self/ns/net").st_ino, False)
    found.close()
    assert processes.open_process(sleeper.pid, "sleep", "600") is None
    assert processes.open_process(sleeper.pid, "helper", "60") is None
    assert processes.open_process(sleeper.pid, "helper", "helper 600") is None


@pytest.mark.parametrize("pid", [0, -1, 1 << 22, 1 << 40, 1 << 80])
def test_a_number_that_is_no_process(pid: int) -> None:
    assert processes.open_process(pid, "helper", "600") is None


def test_a_process_that_has_ended_is_neither_found_nor_signalled(sleeper: subprocess.Popen[bytes]) -> None:
    found = processes.open_process(sleeper.pid, "helper", "600")
    assert found is not None
    sleeper.kill()
    assert found.wait(20)
    assert processes.open_process(sleeper.pid, "helper", "600") is None, "not even while nobody has waited for it"
    sleeper.wait()
    found.signal(signal.SIGTERM)
    assert found.ended
    assert not found.catches(signal.SIGHUP)
    assert processes.parent_of(sleeper.pid) is None
    assert processes.command_line(sleeper.pid) == []
    assert processes.children_of(sleeper.pid) == []
    found.close()


def test_running_processes_of_a_program_are_found(sleeper: subprocess.Popen[bytes]) -> None:
    assert (sleeper.pid, ["helper", "600"]) in list(processes.running("helper"))
    assert processes.parent_of(sleeper.pid) == os.getpid()
    assert sleeper.pid in processes.children_of(os.getpid())


def test_which_signals_a_process_catches() -> None:
    code = "import signal, sys; signal.signal(signal.SIGHUP, print); print('ready', flush=True); sys.stdin.read()"
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        child.stdout.readline()
        found = processes.open_process(child.pid, Path(sys.executable).name, code)
        assert found is not None
        assert found.catches(signal.SIGHUP)
        assert not found.catches(signal.SIGUSR1)
        found.close()
    finally:
        child.kill()
        child.communicate()


@pytest.mark.parametrize(
    ("content", "number"),
    [(b"17\n", 17), (b" 17 x", 17), (b"", None), (b"x", None), (b"\xff\xfe", None), (b"\0" * 4096, None)],
)
def test_process_id_files(tmp_path: Path, content: bytes, number: int | None) -> None:
    path = tmp_path / "x.pid"
    path.write_bytes(content)
    assert processes.read_pid_file(path) == number


def test_a_process_id_file_that_is_none(tmp_path: Path) -> None:
    assert processes.read_pid_file(tmp_path) is None
    assert processes.read_pid_file(tmp_path / "missing" / "x.pid") is None


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RadvdService]:
    """On a machine without radvd."""
    monkeypatch.setenv("PATH", "/nowhere")
    made = RadvdService(tmp_path / "ra", tmp_path / "pids", "", 30, 100, "respawn")
    yield made
    made.close()


def advertiser() -> Router:
    subnet = Subnet(ID, IPv6Network("2001:db8::/64"), None, RaMode.SLAAC)
    return Router(ID, interfaces=(RouterPort(ID, ID, "02:00:00:00:00:01", 1500, (), (subnet,)),))


def test_a_router_that_needs_nothing_leaves_no_trace(service: RadvdService, tmp_path: Path) -> None:
    assert service.plan(Router(ID)) == []
    service.apply(Router(ID))
    assert service.plan_remove(ID) == []
    service.remove(ID)
    assert list(tmp_path.iterdir()) == []
    assert service.status() == {"routers": 0, "died": 0, "waiting": []}


def test_a_plan_writes_nothing(service: RadvdService, tmp_path: Path) -> None:
    assert service.plan(advertiser()) == ["+ radvd"]
    assert list(tmp_path.iterdir()) == []


def test_configuration_may_be_read_by_all_and_written_by_none(service: RadvdService, tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match="radvd is not installed"):
        service.apply(advertiser())
    conf = tmp_path / "ra" / f"{ID}.radvd.conf"
    assert conf.stat().st_mode & 0o777 == 0o444
    assert {path.name for path in conf.parent.iterdir()} == {conf.name, f"{conf.name}.unread"}
    assert service.plan(advertiser()) == ["+ radvd"]
    service.remove(ID)
    assert list(conf.parent.iterdir()) == []


def test_routers_are_known_by_their_files_and_others_files_are_no_routers(
    service: RadvdService, tmp_path: Path
) -> None:
    for name in ("ra", "pids"):
        (tmp_path / name).mkdir()
    for name in (f"ra/{ID}.radvd.conf", f"pids/{OTHER}.pid.radvd", "ra/mine.radvd.conf", f"ra/{OTHER}.conf"):
        (tmp_path / name).write_text("")
    assert set(service.routers()) == {ID, OTHER}
    for router_id in (ID, OTHER):
        assert service.plan_remove(router_id) == ["- radvd"]
        service.remove(router_id)
    assert set(service.routers()) == set()
    assert (tmp_path / "ra" / "mine.radvd.conf").exists()


@pytest.mark.parametrize("kind", ["ra", "pids"])
def test_files_that_cannot_be_removed_are_named(service: RadvdService, tmp_path: Path, kind: str) -> None:
    path = tmp_path / {"ra": f"ra/{ID}.radvd.conf", "pids": f"pids/{ID}.pid.radvd"}[kind]
    path.mkdir(parents=True)
    with pytest.raises(ServiceError, match=str(path)):
        service.remove(ID)
    path.rmdir()
    service.remove(ID)


def test_directories_that_cannot_be_made_are_named(service: RadvdService, tmp_path: Path) -> None:
    (tmp_path / "ra").write_text("a file")
    with pytest.raises(ServiceError, match=f"no router advertisements: .*{tmp_path / 'ra'}"):
        service.apply(advertiser())
