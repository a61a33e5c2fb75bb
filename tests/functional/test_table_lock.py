"""Another program holds the lock of iptables programs: jobs that need no table go on, the others follow at once."""

from __future__ import annotations

import copy

import pytest

from dvr_agent.kernel.iptables.lock import XTABLES_LOCK
from tests.support import lab
from tests.support.daemon_site import (
    EXTERNAL_BRIDGE,
    FIP,
    QROUTER,
    RECORDED,
    ROUTER,
    Site,
    namespaces,
    neighbour_router,
)
from tests.support.waiting import wait_for
from tests.support.xtables_lock import held_lock

pytestmark = pytest.mark.legacy_tables("changes of nf_tables take no lock")


def test_only_jobs_that_change_tables_wait_for_the_lock(site: Site, host: lab.Host) -> None:
    host.bridge(EXTERNAL_BRIDGE)
    site.daemon.configure(dvr_agent={"audit_interval": 0}, directory={"rescan_interval": 3600})
    other, new = neighbour_router(1), neighbour_router(2)
    site.write(RECORDED)
    leaving = site.write(other, "other")
    site.daemon.start()
    wait_for(lambda: {one["state"] for one in site.daemon.status()["routers"]} == {"in sync"})
    built = site.daemon.status()["counters"]["writes"]["commits"]
    with held_lock():
        site.write(new, "new")
        wait_for(lambda: site.daemon.status()["queue_depth"] == 1)
        assert f"qrouter-{new['router']['id']}" not in namespaces()  # not half of it either
        leaving.unlink()
        wait_for(lambda: f"qrouter-{other['router']['id']}" not in namespaces())
        with_route = copy.deepcopy(RECORDED)
        with_route["router"]["routes"] = [{"destination": "172.16.0.0/16", "nexthop": "10.1.0.9"}]
        site.write(with_route)
        wait_for(lambda: "172.16.0.0/16" in lab.run("ip", "-n", QROUTER, "route"))
        wait_for(lambda: site.state() == "in sync")
        wait_for(lambda: any(XTABLES_LOCK in text for text in site.daemon.status()["troubles"]))
        (trouble,) = site.daemon.status()["troubles"]
        assert f"{XTABLES_LOCK} held by " in trouble
        assert "1 router waits for it" in trouble
        assert site.daemon.status()["counters"]["failures"] == 0
        assert site.state(new["router"]["id"]) == "pending"
        assert site.daemon.status()["counters"]["writes"]["commits"] == built
    wait_for(lambda: site.state(new["router"]["id"]) == "in sync")
    wait_for(lambda: not site.daemon.status()["troubles"])
    assert site.daemon.out.count(f"waiting for {XTABLES_LOCK} held by ") == 1
    assert "is free again" in site.daemon.out


def test_a_job_that_waited_too_long_fails_and_comes_once_the_lock_is_free(site: Site, host: lab.Host) -> None:
    host.bridge(EXTERNAL_BRIDGE)
    retries = {"retry_interval": 3000, "retry_interval_max": 3000}
    site.daemon.configure(dvr_agent={"audit_interval": 0, **retries}, directory={"rescan_interval": 3600})
    site.daemon.start()
    with held_lock():
        site.write(RECORDED)
        wait_for(lambda: site.state() == "degraded")
        assert XTABLES_LOCK in site.daemon.status()["routers"][0]["reason"]
        assert FIP not in namespaces()
    wait_for(lambda: site.state() == "in sync")
    assert f"router {ROUTER}" in site.daemon.out
    assert "recovered" in site.daemon.out
