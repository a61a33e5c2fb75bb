"""``dvrctl plan`` beside a daemon that got a document it cannot use, and after that daemon."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import lab
from tests.support.ctl import run_ctl
from tests.support.rabbit import Rabbit
from tests.support.replay_server import NeutronServer
from tests.support.replay_site import Site, add_to
from tests.support.waiting import wait_for

TEMPLATE, HOST = "b2_dvr_snat_node_with_vms", "compute1"


@pytest.fixture
def site(broker: Rabbit, neutron_server: NeutronServer, host: lab.Host, tmp_path: Path) -> Iterator[Site]:
    neutron_server.reset(HOST)
    with broker.reach():
        router = add_to(neutron_server.cloud, TEMPLATE, HOST)
        network = router["gw_port"]["network_id"]
        options = {"enable_metadata_proxy": False}
        site = Site(host, tmp_path, neutron_server, "dvr_snat", {network}, **options)
        yield site.start()
        site.stop()


def plan(site: Site) -> subprocess.CompletedProcess[str]:
    return run_ctl(site.daemon.config, "plan")


def test_plan_says_that_an_older_document_is_in_force(site: Site) -> None:
    (router,) = site.server.cloud.routers.values()
    of, port = router["id"], router["_interfaces"][0]
    site.in_sync(of)
    done = plan(site)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "plan: 1 in sync"), done.stdout + done.stderr

    mtu, port["mtu"] = port["mtu"], -1
    site.server.updated(of)
    wait_for(lambda: site.source()["bad"])
    wait_for(lambda: plan(site).returncode == 2)  # what is noted on disk comes a moment after what the daemon says
    for daemon in ("running", "stopped"):
        if daemon == "stopped":
            site.daemon.stop()
        done = plan(site)
        assert done.returncode == 2, daemon
        assert "in sync" not in done.stdout
        verdict = "its newest document cannot be used"
        assert f"router {of} ({router['name']}): {verdict}" in done.stdout
        assert "$.router._interfaces[0].mtu is -1" in done.stdout

    port["mtu"] = mtu
    site.start()
    wait_for(lambda: plan(site).returncode == 0)
