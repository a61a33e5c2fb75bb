"""A daemon that is restarted by its service manager hears on: it reads only what has changed meanwhile (ADR 25)."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import dvr_agent
from dvr_agent.kernel.host_filter import HostFilter
from tests.support import lab
from tests.support.daemon_site import (
    EXTERNAL_BRIDGE,
    QROUTER,
    RECORDED,
    ROUTER,
    TENANT_BRIDGE,
    Site,
    neighbour_router,
    snapshot,
)
from tests.support.filter_tools import flush_nat
from tests.support.service_manager import ServiceManager
from tests.support.waiting import wait_for

NOT_READ = re.compile(r"(\d+) routers? not read: nothing has changed there since the last stop")
STORED = 4
"""Descriptors: of three sockets, and the record; one more for nf_tables."""
OTHER = neighbour_router(1)
OTHER_ID = OTHER["router"]["id"]


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[ServiceManager]:
    manager = ServiceManager(tmp_path / "notify")
    yield manager
    manager.close()


@pytest.fixture
def site(host: lab.Host, manager: ServiceManager, tmp_path: Path) -> Iterator[Site]:
    """Two trusted routers of a daemon that will not audit them in this hour."""
    host.bridge(TENANT_BRIDGE)
    host.bridge(EXTERNAL_BRIDGE)
    site = Site(tmp_path)
    site.daemon.configure(dvr_agent={"audit_interval": 3600})
    site.write(RECORDED)
    site.write(OTHER, "other")
    try:
        site.daemon.start(manager=manager)
        trust(site)
        yield site
    finally:
        site.daemon.kill()


def in_sync(site: Site) -> bool:
    return {site.state(ROUTER), site.state(OTHER_ID)} == {"in sync"} and not site.daemon.status()["progress"]


def trust(site: Site) -> None:
    """Have the daemon read what it has built: an operator's sync."""
    wait_for(lambda: in_sync(site))
    assert site.daemon.ask("/sync", "POST")[0] in (200, 202)
    wait_for(lambda: in_sync(site))


def unread(site: Site) -> list[int]:
    """How many routers each start so far has not read."""
    return [int(number) for number in NOT_READ.findall(site.daemon.log)]


def restart(site: Site, manager: ServiceManager) -> None:
    site.daemon.start(manager=manager)
    wait_for(lambda: in_sync(site))


def test_what_is_as_it_was_is_not_read(site: Site, manager: ServiceManager) -> None:
    before = snapshot()
    for number in (1, 2):
        assert site.daemon.stop() == 0
        manager.wait_for_stored(STORED + (HostFilter.backend == "nftables"))
        restart(site, manager)
        wait_for(lambda number=number: unread(site) == [2] * number)
        assert not manager.stored
    assert snapshot() == before
    assert site.daemon.status()["counters"]["writes"]["netlink"] == 0


def test_what_has_changed_meanwhile_is_read_and_repaired(site: Site, manager: ServiceManager) -> None:
    before = snapshot()
    site.daemon.stop()
    lab.in_netns(QROUTER, "ip", "rule", "flush")
    restart(site, manager)
    wait_for(lambda: unread(site) == [1])
    wait_for(lambda: snapshot() == before)


def test_packet_filter_tables_are_compared_at_once(site: Site, manager: ServiceManager) -> None:
    """The kernel tells no events of legacy tables; the next audit is an hour away."""
    before = snapshot()
    site.daemon.stop()
    flush_nat(QROUTER)
    restart(site, manager)
    wait_for(lambda: snapshot() == before)


def test_after_a_crash_everything_is_read(site: Site, manager: ServiceManager) -> None:
    site.daemon.kill()
    assert not manager.stored
    restart(site, manager)
    site.daemon.stop()
    assert unread(site) == []


def test_with_another_configuration_everything_is_read(site: Site, manager: ServiceManager) -> None:
    site.daemon.stop()
    site.daemon.configure(dvr_agent={"retry_interval": 7})
    restart(site, manager)
    assert "all routers are read: installation or configuration are others" in site.daemon.log
    assert not manager.stored
    site.daemon.stop()
    assert unread(site) == []


def test_after_another_installation_of_the_same_version_everything_is_read(
    site: Site, manager: ServiceManager, tmp_path: Path
) -> None:
    """Another revision of a package replaces the files of the process that runs."""
    installed = tmp_path / "installed"

    def install() -> None:
        shutil.rmtree(installed, ignore_errors=True)
        shutil.copytree(Path(dvr_agent.__file__).parent, installed / "dvr_agent")

    def restart() -> list[int]:
        site.daemon.stop()
        site.daemon.start(manager=manager, PYTHONPATH=str(installed), PYTHONSAFEPATH="1")
        wait_for(lambda: in_sync(site))
        return unread(site)

    install()
    assert restart() == []
    assert restart() == [2]
    install()
    assert restart() == [2]


def test_a_record_that_cannot_be_read_is_no_obstacle(site: Site, manager: ServiceManager) -> None:
    site.daemon.stop()
    manager.wait_for_stored(STORED + (HostFilter.backend == "nftables"))
    manager.drop("events-record")
    restart(site, manager)
    assert "all routers are read" in site.daemon.log
    site.daemon.stop()
    assert unread(site) == []


def test_what_was_taken_is_not_taken_again_though_the_store_still_has_it(site: Site, manager: ServiceManager) -> None:
    """Else a crashed process would leave sockets that it has read from."""
    manager.is_deaf = True
    site.daemon.stop()
    restart(site, manager)
    wait_for(lambda: unread(site) == [2])
    for is_crash in (True, False):
        (site.daemon.kill if is_crash else site.daemon.stop)()
        restart(site, manager)
        site.daemon.stop()
    assert unread(site) == [2]


def test_descriptors_of_others_are_left_alone(site: Site, manager: ServiceManager) -> None:
    site.daemon.stop()
    manager.stored = {"other": [os.memfd_create("other")], **manager.stored}
    restart(site, manager)
    wait_for(lambda: unread(site) == [2])


def test_a_record_can_be_left_where_files_without_a_name_must_not_be_executable() -> None:
    switch = Path("/proc/sys/vm/memfd_noexec")
    if not switch.exists():
        pytest.skip("Linux before 6.3")
    forbid = f"open({str(switch)!r}, 'w').write('2')"
    leave = "from dvr_agent.daemon import kept_events; kept_events._new_file()"
    lab.run("unshare", "--pid", "--fork", sys.executable, "-c", f"{forbid}; {leave}")


def test_without_a_service_manager_nothing_is_kept(site: Site, manager: ServiceManager) -> None:
    site.daemon.kill()
    site.daemon.start()
    trust(site)
    site.daemon.stop()
    assert not manager.stored
    assert "a restart need not read" not in site.daemon.log
