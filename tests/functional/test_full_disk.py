"""A state directory that nothing can be written to: the agent starts, adopts, says so once, and heals."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dvr_agent.lock import PROCESS_FILE
from tests.support import lab
from tests.support.ctl import Ctl
from tests.support.daemon_site import DUAL, DUAL_ID, FLOATING, RECORDED, ROUTER, Site, neighbour_router, snapshot
from tests.support.waiting import wait_for

FILES = ("fip-linklocal-networks", "fip-priorities")


class Disk:
    """What is wrong with the state directory, and how it is put right.

    :ivar says: what the agent complains of
    """

    def __init__(self, state: Path) -> None:
        self.state, self.mounted = state, False

    def mount(self, where: Path, options: str) -> None:
        where.mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", where], check=True)
        self.mounted = True

    def full(self) -> str:
        self.mount(self.state, "size=64k")
        self.fill()
        return "No space left on device"

    def fill(self) -> None:
        with (self.state / "filler").open("wb", buffering=0) as file:
            try:
                while file.write(b"x" * 4096):
                    pass
            except OSError:
                pass

    def read_only(self) -> str:
        self.mount(self.state, "ro")
        return "Read-only file system"

    def parent_read_only(self) -> str:
        self.mount(self.state.parent, "ro")
        return "Read-only file system"

    def directories(self) -> str:
        for name in FILES:
            (self.state / name / "in the way").mkdir(parents=True)
        return "is a directory"

    def repair(self) -> None:
        if (self.state / "filler").exists():
            (self.state / "filler").unlink()
        elif self.mounted:
            subprocess.run(["mount", "-o", "remount,rw", self.mount_point], check=True)
        else:
            for name in FILES:
                (self.state / name / "in the way").rmdir()
                (self.state / name).rmdir()

    @property
    def mount_point(self) -> Path:
        return self.state if self.state.exists() else self.state.parent

    def close(self) -> None:
        if self.mounted:
            for path in (self.state, self.state.parent):
                subprocess.run(["umount", "-l", path], check=False, capture_output=True)


@pytest.fixture
def site(site: Site, tmp_path: Path) -> Site:
    """The site of the other tests, with a state directory that can be a file system of its own."""
    site.daemon.state = tmp_path / "var" / "state"
    site.daemon.configure(DEFAULT={"state_path": site.daemon.state})
    return site


@pytest.fixture
def disk(site: Site) -> Iterator[Disk]:
    made = Disk(site.daemon.state)
    yield made
    made.close()


HARMS: list[Callable[[Disk], str]] = [Disk.full, Disk.read_only, Disk.parent_read_only, Disk.directories]


@pytest.mark.parametrize("harm", HARMS)
def test_the_agent_builds_adopts_says_it_once_and_heals(site: Site, disk: Disk, harm: Callable[[Disk], str]) -> None:
    trouble = harm(disk)
    site.write(RECORDED)
    site.daemon.start()
    wait_for(lambda: site.daemon.status()["troubles"])
    status = site.daemon.status()
    assert site.state() == "in sync"
    assert status["state"] == "degraded"
    assert any("state files cannot be kept" in text for text in status["troubles"])
    before = snapshot()
    site.daemon.stop()
    site.daemon.start()
    site.write(neighbour_router(), "two")
    wait_for(lambda: len(site.daemon.status()["routers"]) == 2)
    for _ in range(2):
        site.audited()
    after = snapshot()
    assert {name: after[name] for name in before if name.startswith(("qrouter", "snat"))} == {
        name: held for name, held in before.items() if name.startswith(("qrouter", "snat"))
    }
    log = site.daemon.out
    runs = log.split(" starts: host ")[1:]
    assert [run.count("state files could not be written") for run in runs] == [1, 1]
    assert trouble.lower() in runs[1].lower()
    ctl = subprocess.run([*_ctl(site), "status"], capture_output=True, text=True, check=False)
    assert ctl.returncode == 2
    assert "state files cannot be kept" in ctl.stdout
    disk.repair()
    wait_for(lambda: site.daemon.status()["state"] == "in sync")
    assert FLOATING in (site.daemon.state / FILES[1]).read_text()
    assert ROUTER in (site.daemon.state / FILES[0]).read_text()
    assert site.daemon.out.count("recovered: state files are written again") == 1
    assert "Traceback" not in site.daemon.out
    assert site.daemon.err == ""


def _ctl(site: Site) -> list[str]:
    import sys

    return [sys.executable, "-m", "dvr_agent.cli.ctl", "--config-file", str(site.daemon.config)]


def test_a_disk_that_fills_up_while_the_agent_runs(site: Site, disk: Disk) -> None:
    disk.mount(site.daemon.state, "size=64k")
    site.write(RECORDED)
    site.daemon.start()
    wait_for(lambda: (site.daemon.state / FILES[1]).exists())
    kept = (site.daemon.state / FILES[1]).read_text()
    disk.fill()
    site.write(neighbour_router(), "two")
    wait_for(lambda: site.daemon.status()["troubles"])
    assert (site.daemon.state / FILES[1]).read_text() == kept
    assert {path.name for path in site.daemon.state.iterdir()} <= {*FILES, PROCESS_FILE, "filler", "dvr-agent"}
    disk.repair()
    wait_for(lambda: site.daemon.status()["state"] == "in sync")
    assert (site.daemon.state / FILES[1]).read_text() != kept


@pytest.mark.parametrize("what", ["full", "read-only"])
def test_a_disk_that_takes_nothing_is_named_at_the_start_though_the_files_are_right(
    site: Site, disk: Disk, what: str
) -> None:
    disk.mount(site.daemon.state, "size=64k")
    site.write(RECORDED)
    site.daemon.start()
    wait_for(lambda: (site.daemon.state / FILES[1]).exists())
    site.daemon.stop()
    before = [(site.daemon.state / name).read_text() for name in FILES]
    if what == "full":
        disk.fill()
    else:
        subprocess.run(["mount", "-o", "remount,ro", site.daemon.state], check=True)
    site.daemon.start()
    wait_for(lambda: site.daemon.status()["troubles"])
    assert site.state() == "in sync"
    assert [(site.daemon.state / name).read_text() for name in FILES] == before
    disk.repair()
    wait_for(lambda: site.daemon.status()["state"] == "in sync")


@pytest.mark.parametrize("harm", [Disk.full, Disk.read_only, Disk.parent_read_only])
def test_only_the_service_that_needs_a_file_is_missing(site: Site, disk: Disk, harm: Callable[[Disk], str]) -> None:
    trouble = harm(disk)
    site.write(DUAL)
    site.write(RECORDED, "two")
    site.daemon.start()
    code, record = site.daemon.ask(f"/routers/{DUAL_ID}")
    assert (code, record["state"]) == (200, "degraded")
    assert record["reason"].startswith("no router advertisements: ")
    assert trouble in record["reason"]
    assert site.state() == "in sync"
    disk.repair()
    wait_for(lambda: site.state(DUAL_ID) == "in sync")


@pytest.mark.parametrize("harm", HARMS)
def test_dvrctl_plans_applies_and_cleans_up_without_a_place_for_state_files(
    host: lab.Host, tmp_path: Path, harm: Callable[[Disk], str]
) -> None:
    ctl = Ctl(tmp_path)
    ctl.state = tmp_path / "var" / "state"
    ctl.config.write_text(ctl.config.read_text().replace(f"{tmp_path}/state", str(ctl.state)))
    disk = Disk(ctl.state)
    try:
        trouble = harm(disk)
        path = ctl.document()
        plan = ctl.run("plan")
        assert plan.returncode == 2, plan.stdout + plan.stderr
        applied = ctl.run("apply", path)
        assert applied.returncode == 1
        assert "1 changed" in applied.stdout
        assert "state files cannot be written" in applied.stderr
        assert trouble.lower() in applied.stderr.lower()
        again = ctl.run("plan")
        assert again.returncode == 0, again.stdout + again.stderr
        assert "in sync" in again.stdout
        cleaned = ctl.run("cleanup", "--all", "--yes")
        assert "everything of dvr-agent" in cleaned.stdout
        assert "Traceback" not in plan.stderr + applied.stderr + again.stderr + cleaned.stderr
    finally:
        disk.close()
