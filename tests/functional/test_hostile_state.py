"""The user neutron owns ``state_path`` and plays tricks: root's services and kept documents harm no file elsewhere."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dvr_agent.errors import DocumentError, ServiceError
from dvr_agent.services.metadata.haproxy import L3AgentHaproxies
from dvr_agent.services.processes import running
from dvr_agent.sources import files
from dvr_agent.sources.neutron.crossing.document_files import DocumentFiles
from dvr_agent.sources.neutron.fallback import complete_since, load_documents
from dvr_agent.sources.neutron.store.document_cache import DocumentCache
from tests.support import lab
from tests.support.radvd_rig import ID, Rig, router
from tests.support.waiting import wait_for

USER = 64055
SECRET = "root:$6$secret:19000:0:99999:7:::\n"
DOCUMENT = b'{"id": "%s", "distributed": true, "admin_state_up": true}' % ID.encode()


class Trap:
    """A state directory of the user, and files of root that the user would like to have."""

    def __init__(self, folder: Path) -> None:
        self.state, self.etc = folder / "state", folder / "etc"
        self.etc.mkdir()
        self.shadow = self.etc / "shadow"
        for name in ("shadow", *(f"{ID}{end}" for end in (".radvd.conf", ".radvd.conf.unread", ".pid.radvd", ".json"))):
            (self.etc / name).write_text(SECRET)
            (self.etc / name).chmod(0o600)
        self.state.mkdir()
        os.chown(self.state, USER, USER)
        self.before = self.look()

    def look(self) -> dict[str, tuple[object, ...]]:
        found = {path: path.lstat() for path in (self.etc, *self.etc.iterdir())}
        return {
            str(path): (one.st_uid, one.st_gid, one.st_mode, path.read_text() if path.is_file() else "")
            for path, one in found.items()
        }

    def mine(self, path: Path) -> Path:
        """A directory of the user."""
        for folder in (*reversed(path.parents), path):
            if folder.is_relative_to(self.state):
                folder.mkdir(exist_ok=True)
                os.chown(folder, USER, USER)
        return path

    def link(self, path: Path, target: Path) -> None:
        self.mine(path.parent)
        path.symlink_to(target)
        os.chown(path, USER, USER, follow_symlinks=False)


@pytest.fixture
def trap(real_root: None, tmp_path: Path) -> Iterator[Trap]:
    tmp_path.chmod(0o755)
    made = Trap(tmp_path)
    yield made
    assert made.look() == made.before


@pytest.fixture
def rig(trap: Trap) -> Iterator[Rig]:
    with lab.fresh_host():
        made = Rig(trap.state)
        yield made
        made.service.close()
        for pid, words in list(running("radvd")):
            if any(word.startswith(str(trap.state)) for word in words):
                os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("file", [f"ra/{ID}.radvd.conf", f"ra/{ID}.radvd.conf.unread", f"external/pids/{ID}.pid.radvd"])
@pytest.mark.parametrize("kind", ["link", "hard link", "fifo"])
def test_radvd_serves_and_no_file_of_root_is_touched(trap: Trap, rig: Rig, file: str, kind: str) -> None:
    path = trap.state / file
    trap.mine(path.parent)
    if kind == "link":
        trap.link(path, trap.shadow)
    elif kind == "hard link":
        os.link(trap.shadow, path)
    else:
        os.mkfifo(path)
    rig.service.apply(router())
    assert rig.service.plan(router()) == []
    wait_for(rig.learned, "the instance has learned")
    assert len(rig.mains()) == 1
    rig.restart()
    assert rig.service.plan(router()) == []
    rig.service.remove(ID)
    assert rig.mains() == []
    assert rig.service.routers() == set()


def test_radvd_itself_writes_no_process_id_through_a_link_that_comes_late(
    trap: Trap, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The link comes between the last look of the agent and the moment in which radvd opens its file."""
    spawn = os.posix_spawn

    def trick(*words: object, **more: object) -> int:
        rig.pid_file.unlink(missing_ok=True)
        trap.link(rig.pid_file, trap.shadow)
        return spawn(*words, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "posix_spawn", trick)
    with pytest.raises(ServiceError):
        rig.service.apply(router())
    monkeypatch.undo()
    rig.restart()
    rig.service.apply(router())
    assert len(rig.mains()) == 1


@pytest.mark.parametrize("directory", ["ra", "external", "external/pids"])
def test_a_link_in_a_directorys_place_keeps_radvd_away_and_nothing_is_given_away(
    trap: Trap, rig: Rig, directory: str
) -> None:
    trap.link(trap.state / directory, trap.etc)
    with pytest.raises(ServiceError, match="symbolic link"):
        rig.service.apply(router())
    assert rig.service.plan(router()) == ["+ radvd"]
    (trap.state / directory).unlink()
    rig.service.apply(router())
    assert len(rig.mains()) == 1


def test_of_a_linked_configuration_nothing_is_quoted(trap: Trap, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    spawn = os.posix_spawn

    def trick(*words: object, **more: object) -> int:
        rig.conf.unlink()
        trap.link(rig.conf, trap.shadow)
        return spawn(*words, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "posix_spawn", trick)
    with pytest.raises(ServiceError) as caught:
        rig.service.apply(router())
    assert "root" not in str(caught.value).replace("pytest-of-root", "")
    assert "secret" not in str(caught.value)


def test_a_configuration_that_radvd_refuses_is_named_by_its_file(
    trap: Trap, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    spawn = os.posix_spawn

    def trick(*words: object, **more: object) -> int:
        rig.conf.unlink()
        rig.conf.write_text("nonsense;\n")
        return spawn(*words, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "posix_spawn", trick)
    with pytest.raises(ServiceError, match=rf"refuses to start .*{rig.conf}"):
        rig.service.apply(router())


@pytest.mark.parametrize("options", ["ro", "size=4k,nr_inodes=1"])
def test_without_room_radvd_is_missing_and_says_why_and_comes_when_there_is_room(
    trap: Trap, rig: Rig, options: str
) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", trap.state], check=True)
    with pytest.raises(ServiceError, match=r"Read-only file system|No space left on device"):
        rig.service.apply(router())
    subprocess.run(["umount", trap.state], check=True)
    rig.service.apply(router())
    assert len(rig.mains()) == 1


def test_haproxys_files_may_be_fifos_and_links(trap: Trap) -> None:
    pids, confs = trap.mine(trap.state / "external" / "pids"), trap.mine(trap.state / "ns-metadata-proxy")
    os.mkfifo(pids / f"{ID}.pid.haproxy")
    assert not L3AgentHaproxies(pids, confs).runs(ID)
    (pids / f"{ID}.pid.haproxy").unlink()
    trap.link(pids / f"{ID}.pid.haproxy", trap.shadow)
    reference = L3AgentHaproxies(pids, confs)
    assert reference.routers() == set()
    reference.end(ID)


HARM: list[Callable[[Trap, Path], None]] = [
    lambda trap, path: trap.link(path, trap.etc),
    lambda trap, path: trap.link(path.parent, trap.etc),
    lambda trap, path: trap.link(path.parent.parent, trap.etc),
]


@pytest.mark.parametrize("harm", HARM)
def test_documents_are_not_kept_in_nor_taken_from_a_linked_directory(
    trap: Trap, harm: Callable[[Trap, Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    path = trap.state / "dvr-agent" / "h" / "routers"
    harm(trap, path)
    documents = DocumentFiles(path)
    kept = DocumentCache(documents)
    for _ in range(3):
        kept.write(ID, DOCUMENT)
        kept.complete([])
    kept.remove(ID)
    assert "symbolic link" in documents.problem
    assert list(load_documents(path, 1 << 20)) == []
    assert complete_since(path) is None
    assert caplog.text.count("cannot be kept") == 1
    assert "secret" not in caplog.text


def test_documents_of_the_user_are_no_routers(trap: Trap, caplog: pytest.LogCaptureFixture) -> None:
    path = trap.mine(trap.state / "dvr-agent" / "h" / "routers")
    (path / f"{ID}.json").write_bytes(DOCUMENT)
    (path / ".complete").touch()
    documents = DocumentFiles(path)
    kept = DocumentCache(documents)
    assert list(load_documents(path, 1 << 20)) == []
    assert complete_since(path) is None
    kept.write(ID, DOCUMENT)
    assert "another user" in documents.problem


def test_documents_that_could_not_be_kept_are_kept_when_there_is_room(
    trap: Trap, host: lab.Host, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dvr_agent.sources.neutron.crossing.document_files.RETRY_SECONDS", 0.1)
    path = trap.state / "dvr-agent" / "h" / "routers"
    documents = DocumentFiles(path)
    kept = DocumentCache(documents)
    kept.write(ID, DOCUMENT)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8k", "none", path], check=True)
    (path / "filler").write_bytes(b"x" * 8192)
    for _ in range(3):
        kept.write(ID, DOCUMENT)
    assert "No space left" in documents.problem
    kept.complete([])
    assert complete_since(path) is None
    assert caplog.text.count("cannot be kept") == 1
    assert [entry.name for entry in path.iterdir()] == ["filler"]
    (path / "filler").unlink()
    wait_for(lambda: not documents.problem, "the documents are kept")
    assert (path / f"{ID}.json").read_bytes() == DOCUMENT
    assert complete_since(path) is not None
    documents.close()


def test_a_document_directory_of_another_user_gives_no_file_that_this_user_cannot_read(
    trap: Trap, caplog: pytest.LogCaptureFixture
) -> None:
    own, folder = trap.etc / "own.json", trap.mine(trap.state / "documents")
    own.write_bytes(DOCUMENT)
    trap.before = trap.look()
    (folder / "plain.json").write_bytes(DOCUMENT)
    trap.link(folder / "link.json", own)
    os.link(own, folder / "hard.json")
    trap.link(folder / "shadow.json", trap.shadow)
    (folder / "mine.json").write_bytes(DOCUMENT)
    os.chown(folder / "mine.json", USER, USER)
    trap.link(folder / "mine-by-link.json", folder / "mine.json")
    directory = os.open(folder, os.O_RDONLY)
    try:
        for name in ("plain", "mine", "mine-by-link"):
            found = files.read(f"{name}.json", directory, 4096)
            assert found is not None
            assert found.data == DOCUMENT
        for name in ("link", "hard", "shadow"):
            with pytest.raises(DocumentError, match="a link to a file of another user"):
                files.read(f"{name}.json", directory, 4096)
    finally:
        os.close(directory)
