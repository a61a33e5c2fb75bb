"""Which thread runs which function of the neutron source, on a running daemon: what the folders' docstrings say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import lab
from tests.support.rabbit import Rabbit
from tests.support.replay_server import NeutronServer
from tests.support.replay_site import Site, add_to, neighbours
from tests.support.waiting import wait_for

TEMPLATE, HOST = "b2_dvr_snat_node_with_vms", "compute1"
MTU = 1410
MAC, ADDRESS = "fa:16:3e:00:00:99", 99
OWN_THREADS = {"fetch": {"neutron-fetch"}, "store": {"neutron-fetch"}, "report": {"neutron-report"}}
"""Folder → the threads that run its functions."""
DAEMON = {"MainThread", "worker"}
FILES_OF_A_CAST = 53
"""Files of the source, the model and the daemon that a cast passes from its arrival to the reconciler and back.

Thirty-three, and what is asked on the way since: extra routes and MTUs that cannot be (``model``), and in
``daemon`` the pace of changes, the lock of iptables programs, drift and fights (of these some or all); versioned
objects beside the router; addresses and what is parsed once (``model``); HA ports that an answer lacks, conntrackd, and
what is as it was in the document before (some or all).
"""
CALL_OF_SYNC = "sources/neutron/fetch/full_sync.py:_start_call.<locals>."
"""Functions that ``neutron-sync`` runs, beside those of ``wire``: the call, and what wakes the fetch thread."""


@pytest.fixture
def site(broker: Rabbit, neutron_server: NeutronServer, host: lab.Host, tmp_path: Path) -> Iterator[Site]:
    neutron_server.reset(HOST)
    with broker.reach():
        router = add_to(neutron_server.cloud, TEMPLATE, HOST)
        site = Site(host, tmp_path, neutron_server, "dvr_snat", {router["gw_port"]["network_id"]})
        site.daemon.module = "tests.support.traced_daemon"
        yield site.start()
        site.stop()


@pytest.fixture
def trace(site: Site) -> dict[str, Any]:
    """A router is built, changed, gets a neighbour, and is deleted."""
    (router,) = site.server.cloud.routers.values()
    of, port = router["id"], router["_interfaces"][0]
    site.in_sync(of)
    port["mtu"] = MTU
    site.server.updated(of)
    wait_for(lambda: MTU in {link["mtu"] for link in lab.ip_json("link", netns=f"qrouter-{of}")})
    site.in_sync(of)
    fixed = port["fixed_ips"][0]
    address = f"{fixed['ip_address'].rpartition('.')[0]}.{ADDRESS}"
    entry = {"ip_address": address, "mac_address": MAC, "subnet_id": fixed["subnet_id"], "nud_state": None}
    site.server.cast("add_arp_entry", payload={"router_id": of, "arp_table": entry})
    wait_for(lambda: neighbours(of).get(address) == MAC)
    site.in_sync(of)
    site.server.cloud.routers.clear()
    site.server.cast("router_deleted", router_id=of)
    site.gone(of)
    site.daemon.stop()
    found: dict[str, Any] = json.loads(Path(f"{site.daemon.config}.trace").read_text())
    return found


def test_functions_run_in_the_threads_that_their_folders_name(trace: dict[str, Any]) -> None:
    strangers: dict[str, list[str]] = {}
    seen = set()
    for place, threads in trace["threads"].items():
        folder = place.removeprefix("sources/neutron/").partition("/")[0]
        if folder not in OWN_THREADS or _is_of_construction(place):
            continue
        seen.add(folder)
        allowed = {"neutron-sync"} if place.startswith(CALL_OF_SYNC) else OWN_THREADS[folder]
        if set(threads) - allowed:
            strangers[place] = threads
    assert strangers == {}
    assert seen == OWN_THREADS.keys()


def test_no_thread_of_the_source_comes_back_into_source_py(trace: dict[str, Any]) -> None:
    places = {place: set(threads) for place, threads in trace["threads"].items() if _file(place) == "source.py"}
    assert all(threads <= DAEMON for threads in places.values()), places


def test_poll_runs_in_the_main_thread(trace: dict[str, Any]) -> None:
    """It reads nothing and waits for nothing, so a cast needs no round trip through the worker before its job."""
    assert trace["threads"]["sources/neutron/source.py:NeutronSource.poll"] == ["MainThread"]


def test_a_cast_passes_no_more_files_than_before(trace: dict[str, Any]) -> None:
    assert trace["casts"]
    on_the_way = set.intersection(*map(set, trace["casts"]))  # other work of the daemon meanwhile is not the same twice
    assert len(on_the_way) <= FILES_OF_A_CAST, sorted(on_the_way)


def _file(place: str) -> str:
    return place.removeprefix("sources/neutron/").partition(":")[0]


def _is_of_construction(place: str) -> bool:
    """Imports, classes and constructors: the main thread makes the objects before the threads start."""
    function = place.partition(":")[2]
    is_class = "." not in function and function.lstrip("_")[0].isupper()
    return is_class or function.startswith("<") or "__init__" in function
