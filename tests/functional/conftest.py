"""What functional tests start from: a daemon on a host or on a scripted reconciler, dvrctl with a configuration."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dvr_agent.kernel.api import WriteCounters
from dvr_agent.kernel.namespaces import RealNamespaces
from tests.support import lab
from tests.support.ctl import Ctl
from tests.support.daemon_lab import Daemon
from tests.support.daemon_site import Site
from tests.support.log_lines import doubled_lines
from tests.support.scripted_daemon import MakeDaemon


@pytest.fixture
def counters() -> WriteCounters:
    """Counts what :func:`namespaces` and its sockets write."""
    return WriteCounters()


@pytest.fixture
def namespaces(host: lab.Host, counters: WriteCounters) -> RealNamespaces:
    """Makes and removes namespaces on a pristine host."""
    return RealNamespaces(counters)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[MakeDaemon]:
    """Makes daemons on a scripted reconciler; they are gone at the end of the test."""
    made: list[Daemon] = []

    def make(name: str = "one", **options: dict[str, object]) -> Daemon:
        made.append(Daemon(tmp_path / name, "tests.support.fake_daemon", **options))
        return made[-1]

    yield make
    for one in made:
        if one.process is not None and one.process.poll() is None:
            one.process.kill()
            one.process.wait()
        assert doubled_lines(one.log) == []


@pytest.fixture
def site(host: lab.Host, tmp_path: Path) -> Iterator[Site]:
    """A pristine host; its daemon is not started yet, and killed at the end if it still runs."""
    made = Site(tmp_path)
    yield made
    process = made.daemon.process
    if process is not None and process.poll() is None:
        process.kill()
        process.wait()
    assert doubled_lines(made.daemon.log) == []


@pytest.fixture
def ctl(tmp_path: Path) -> Ctl:
    """dvrctl for commands that need no kernel."""
    return Ctl(tmp_path)


@pytest.fixture
def kernel_ctl(host: lab.Host, ctl: Ctl) -> Ctl:
    """dvrctl on a pristine host."""
    return ctl


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """A test that fails tells what its daemons have logged, and which namespaces there are: it may be rare."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    tmp_path = getattr(item, "funcargs", {}).get("tmp_path")
    if not report.failed or report.when != "call" or tmp_path is None:
        return
    for file in sorted(tmp_path.glob("**/out"))[:4]:
        report.sections.append((f"daemon, {file}", "\n".join(file.read_text(errors="replace").splitlines()[-40:])))
    if lab.NETNS.exists():
        report.sections.append((str(lab.NETNS), " ".join(sorted(path.name for path in lab.NETNS.iterdir()))))
