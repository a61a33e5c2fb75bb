"""Named namespaces on the real kernel, read back with ``ip netns``."""

from __future__ import annotations

import errno
import os
import subprocess
import threading
import time
from pathlib import Path

import pytest

from dvr_agent.errors import KernelError, NamespaceGoneError
from dvr_agent.kernel.api import WriteCounters
from dvr_agent.kernel.namespaces import MAKING_SECONDS, RealNamespaces
from dvr_agent.kernel.netns import entered
from tests.support import lab
from tests.support.waiting import wait_for

NETNS = Path("/run/netns")


def _own() -> str:
    return os.readlink("/proc/thread-self/ns/net")


def _ip_netns() -> set[str]:
    return {line.split()[0] for line in lab.run("ip", "netns", "list").splitlines()}


def test_a_created_namespace_is_one_of_ip_netns_with_lo_up(namespaces: RealNamespaces, counters: WriteCounters) -> None:
    home = _own()
    namespaces.create("qrouter-1")
    assert _own() == home
    assert _ip_netns() == {"qrouter-1"}
    (lo,) = lab.ip_json("link", netns="qrouter-1")
    assert lo["ifname"] == "lo"
    assert "UP" in lo["flags"]
    assert (counters.namespaces, counters.netlink) == (1, 1)


def test_creating_one_that_exists_changes_nothing(namespaces: RealNamespaces, counters: WriteCounters) -> None:
    lab.run("ip", "netns", "add", "qrouter-1")
    before = (NETNS / "qrouter-1").stat().st_ino
    namespaces.create("qrouter-1")
    assert (NETNS / "qrouter-1").stat().st_ino == before
    assert counters.total() == 0


def test_a_file_left_by_a_crash_is_repaired_and_not_listed(namespaces: RealNamespaces) -> None:
    (NETNS / "qrouter-1").touch()
    assert namespaces.list() == []
    assert not namespaces.exists("qrouter-1")
    with pytest.raises(NamespaceGoneError, match="qrouter-1"), namespaces.enter("qrouter-1"):
        pass
    namespaces.create("qrouter-1")
    assert namespaces.list() == ["qrouter-1"]
    assert lab.ip_json("link", netns="qrouter-1")


def _wait_until_old(path: Path) -> None:
    wait_for(lambda: time.time() - path.stat().st_ctime > MAKING_SECONDS, f"{path} is old")


def test_files_without_a_namespace_are_found_and_removed_and_nothing_else(namespaces: RealNamespaces) -> None:
    namespaces.create("qrouter-1")
    for name in ("snat-1", "snat-2", "full"):
        (NETNS / name).touch()
    (NETNS / "full").write_text("not ours")
    (NETNS / "directory").mkdir()
    (NETNS / "link").symlink_to("/dev/null")
    _wait_until_old(NETNS / "full")
    assert namespaces.empty_files() == ["snat-1", "snat-2"]
    for name in ("snat-1", "qrouter-1", "full", "directory", "link", "nothing"):
        namespaces.remove_file(name)
    assert {path.name for path in NETNS.iterdir()} == {"qrouter-1", "snat-2", "full", "directory", "link"}
    assert "qrouter-1" in _ip_netns()


def test_a_file_that_somebody_is_just_making_is_left_alone(namespaces: RealNamespaces) -> None:
    namespaces.create("qrouter-1")
    (NETNS / "snat-1").touch()
    made = namespaces.empty_files()
    assert made == [] or time.time() - (NETNS / "snat-1").stat().st_ctime > MAKING_SECONDS
    _wait_until_old(NETNS / "snat-1")
    lab.run("mount", "--bind", "/proc/self/ns/net", str(NETNS / "snat-1"))
    assert namespaces.empty_files() == []
    namespaces.remove_file("snat-1")
    assert namespaces.list() == ["qrouter-1", "snat-1"]
    lab.run("umount", str(NETNS / "snat-1"))


def test_list_and_exists_see_what_ip_netns_made(namespaces: RealNamespaces) -> None:
    for name in ("b", "a"):
        lab.run("ip", "netns", "add", name)
    assert namespaces.list() == ["a", "b"]
    assert namespaces.exists("a")
    assert not namespaces.exists("c")


def test_remove_takes_the_name_and_the_veth_ends(namespaces: RealNamespaces, counters: WriteCounters) -> None:
    namespaces.create("a")
    namespaces.create("b")
    lab.run("ip", "-n", "a", "link", "add", "v0", "type", "veth", "peer", "name", "v1", "netns", "b")
    namespaces.remove("a")
    assert _ip_netns() == {"b"}
    assert not (NETNS / "a").exists()
    assert counters.namespaces == 3
    for _ in range(100):
        if len(lab.ip_json("link", netns="b")) == 1:
            break
        threading.Event().wait(0.05)
    assert [link["ifname"] for link in lab.ip_json("link", netns="b")] == ["lo"]


def test_removing_what_is_not_there_is_nothing(namespaces: RealNamespaces, counters: WriteCounters) -> None:
    namespaces.remove("a")
    (NETNS / "left-over").touch()
    namespaces.remove("left-over")
    assert list(NETNS.iterdir()) == []
    assert counters.total() == 0


def test_a_namespace_mounted_twice_is_removed(namespaces: RealNamespaces) -> None:
    namespaces.create("a")
    lab.run("mount", "--bind", "/proc/thread-self/ns/net", NETNS / "a")
    namespaces.remove("a")
    assert namespaces.list() == []


def test_enter_moves_the_thread_and_brings_it_back_even_after_an_error(namespaces: RealNamespaces) -> None:
    namespaces.create("a")
    home = _own()
    with namespaces.enter("a"):
        inside = _own()
    assert inside == f"net:[{(NETNS / 'a').stat().st_ino}]"
    with pytest.raises(ZeroDivisionError), namespaces.enter("a"):
        _ = 1 // 0
    assert _own() == home


def test_entering_by_descriptor_and_the_host_itself(namespaces: RealNamespaces) -> None:
    namespaces.create("a")
    fd = os.open(NETNS / "a", os.O_RDONLY)
    with entered(fd):
        assert _own() == f"net:[{os.fstat(fd).st_ino}]"
    os.close(fd)
    home = _own()
    with entered(""):
        assert _own() == home


def test_windows_of_two_threads_do_not_mix(namespaces: RealNamespaces) -> None:
    for name in ("a", "b"):
        namespaces.create(name)
    wrong: list[str] = []

    def work(name: str) -> None:
        expected = f"net:[{(NETNS / name).stat().st_ino}]"
        for _ in range(300):
            with entered(name):
                seen = _own()
            if seen != expected:
                wrong.append(seen)

    threads = [threading.Thread(target=work, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize("name", ["", "a/b", "..", ".", "x" * 256, "a\0b"])
def test_impossible_names_are_refused(namespaces: RealNamespaces, name: str) -> None:
    with pytest.raises(KernelError, match="namespace name"):
        namespaces.create(name)
    with pytest.raises(KernelError, match="namespace name"):
        namespaces.remove(name)
    assert namespaces.list() == []


def test_no_file_descriptor_is_left_open(namespaces: RealNamespaces) -> None:
    namespaces.create("a")
    before = set(os.listdir("/proc/self/fd"))
    namespaces.create("b")
    with namespaces.enter("b"):
        pass
    namespaces.remove("b")
    with pytest.raises(NamespaceGoneError), namespaces.enter("b"):
        pass
    assert set(os.listdir("/proc/self/fd")) == before


def test_another_mount_namespace_sees_new_namespaces(namespaces: RealNamespaces) -> None:
    namespaces.create("first")
    other = subprocess.Popen(
        ["unshare", "-m", "--propagation", "slave", "sh", "-c", "echo ready; read x; ip -n second link show lo"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdout is not None
    assert other.stdout.readline() == "ready\n"
    namespaces.create("second")
    out, _ = other.communicate("go\n", timeout=20)
    assert "LOOPBACK,UP" in out


def test_a_missing_directory_is_made(namespaces: RealNamespaces) -> None:
    lab.run("umount", NETNS)
    lab.run("mount", "-t", "tmpfs", "none", "/run")
    try:
        assert namespaces.list() == []
        namespaces.create("a")
        assert namespaces.list() == ["a"]
        assert "UP" in lab.ip_json("link", netns="a")[0]["flags"]
        namespaces.remove("a")
    finally:
        lab.run("umount", "-l", NETNS)
        lab.run("umount", "-l", "/run")
        lab.run("mount", "-t", "tmpfs", "none", NETNS)


@pytest.mark.parametrize("code", [errno.ENOENT, errno.ENOMEM])
def test_a_namespace_that_cannot_be_examined_is_neither_gone_nor_made_anew(
    namespaces: RealNamespaces, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    namespaces.create("qrouter-1")
    inode = (NETNS / "qrouter-1").stat().st_ino
    answers, examine = iter([OSError(code, "injected")]), os.stat

    def refuse_once(path: str, **more: object) -> os.stat_result:
        error = next(answers, None) if path == str(NETNS / "qrouter-1") else None
        if error is not None:
            raise error
        return examine(path, **more)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", refuse_once)
        with pytest.raises(KernelError, match="whether it exists"):
            namespaces.create("qrouter-1")
    assert namespaces.list() == ["qrouter-1"]
    assert (NETNS / "qrouter-1").stat().st_ino == inode
