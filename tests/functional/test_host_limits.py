"""A host that is full: what fits is built, what works goes on, and the limit is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from dvr_agent.desired import names
from dvr_agent.desired.host_settings import AgentMode, HostSettings
from dvr_agent.reconcile.api import RefusedError
from dvr_agent.reconcile.factory import make_reconciler
from tests.support import lab
from tests.support.small_routers import EXTERNAL, HOST, make_router

BRIDGE_PORTS = 1023
"""BR_MAX_PORTS of the kernel, less number 0."""


def test_a_bridge_without_a_free_port_is_told_and_the_rest_of_the_router_built(host: lab.Host, tmp_path: Path) -> None:
    host.bridge("br-ext")
    taken = len(lab.ip_json("link", "show", "master", "br-ext"))
    lines = [
        f"link add p{number} type veth peer name q{number}\nlink set p{number} master br-ext"
        for number in range(BRIDGE_PORTS - 1 - taken)  # one is left, for fg
    ]
    lab.run("ip", "-batch", "-", text="\n".join(lines), timeout=600)
    reconciler = make_reconciler(HostSettings(HOST, AgentMode.DVR_SNAT), {EXTERNAL: "br-ext"}, tmp_path)
    reconciler.load()
    router = make_router("full", 1)
    with pytest.raises(RefusedError, match=r"port qg-.*EXFULL .*the bridge has 1,023 ports, as many as Linux allows"):
        reconciler.reconcile(router)
    lab.run("ip", "link", "del", "p0")
    reconciler.reconcile(router)
    assert not reconciler.planner.plan(router)
    assert names.SNAT + router.id in reconciler.kernel.namespaces.list()
