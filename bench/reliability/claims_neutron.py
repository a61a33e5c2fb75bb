"""Has neutron-server say of two routers, again and again, that they have one floating IP; over a real message bus."""

from __future__ import annotations

import copy
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

from bench.reliability.api import Figure, Options
from tests.support import lab
from tests.support.rabbit import PROGRAMS, Rabbit
from tests.support.replay_server import NeutronServer
from tests.support.replay_site import Site, add_to
from tests.support.waiting import wait_for

HOST, SCENARIO = "compute1", "b2_dvr_snat_node_with_vms"
ROUNDS, QUICK_ROUNDS = 40, 2


def measure(options: Options) -> Figure:
    """Move a floating IP to and fro: first as the server does, then with both documents that have it."""
    if not (PROGRAMS / "rabbitmq-server").exists():
        return Figure("skipped: rabbitmq-server is missing", True)
    os.environ.setdefault("DVR_TEST_SANDBOX", "1")  # the probes of tests.support.lab ask for it; this is one
    with ExitStack() as stack:
        base = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dvr-claims-")))
        broker = Rabbit(base / "rabbit")
        stack.callback(broker.stop)
        server = NeutronServer(broker.start().url).start()
        stack.callback(server.stop)
        rivals = Rivals(stack, broker, server, base / "site")
        rounds = QUICK_ROUNDS if options.quick else ROUNDS
        wrong = [line for _ in range(rounds) for line in rivals.trade()]
        rivals.site.stop()
    times, lost = rivals.seconds, rivals.reported
    text = (
        f"{len(times)} takeovers, {len(wrong)} otherwise than promised: {rivals.asked} times the older router was "
        f"asked for again, {lost} times ERROR was reported; cast → route median {1e3 * median(times):.0f} ms, worst "
        f"{1e3 * max(times):.0f} ms"
    )
    return Figure(text, not wrong and rivals.asked == len(times) and lost * 2 == len(times), tuple(wrong[:20]))


class Rivals:
    """Two routers of one host and one external network, and the floating IP that their documents have.

    :ivar seconds: from each cast until the route leads to the newer router
    :ivar asked: how often the older router was asked for
    :ivar reported: how often its floating IP was reported as ERROR
    """

    def __init__(self, stack: ExitStack, broker: Rabbit, server: NeutronServer, base: Path) -> None:
        self._server = server
        cloud = server.reset(HOST)
        one = add_to(cloud, SCENARIO, HOST)
        self._network = str(one["gw_port"]["network_id"])
        (self._fip,) = one["_floatingips"]
        two = _twin(one)
        cloud.routers[two["id"]] = two
        self._routers = [one, two]
        host = stack.enter_context(lab.fresh_host())
        stack.enter_context(broker.reach())
        self.site = Site(host, base, server, "dvr_snat", {self._network})
        self.site.daemon.configure(dvr_agent={"audit_interval": 1})
        self.site.start()
        self.site.in_sync(*(router["id"] for router in self._routers))
        self.seconds: list[float] = []
        self.asked = self.reported = 0

    def trade(self) -> Iterator[str]:
        """Have the other router get the floating IP, twice; yields what went wrong."""
        older, newer = self._routers
        self._give(newer)
        older["_floatingips"] = []  # the server knows; nobody has told us
        older["name"] = name = f"without, for the {len(self.seconds)}th time"
        yield from self._taken(older, newer, "in sync")
        # Else its next document would be equal to the last one that the agent knows, and not a newer one.
        wait_for(lambda: self.site.daemon.ask(f"/routers/{older['id']}")[1]["name"] == name, "the answer has come")
        self._give(older)
        since = len(self._server.calls)
        yield from self._taken(newer, older, "degraded")
        try:
            statuses = {newer["_floatingips"][0]["id"]: "ERROR"}
            self._server.wait_asked("update_floatingip_statuses", since, router_id=newer["id"], fip_statuses=statuses)
            self.reported += 1
        except AssertionError as exc:
            yield str(exc)
        newer["_floatingips"] = []
        self._server.updated(newer["id"])
        self.site.in_sync(older["id"], newer["id"])

    def _give(self, router: Any) -> None:
        router["_floatingips"] = [{**self._fip, "id": router["id"], "router_id": router["id"]}]

    def _taken(self, older: Any, newer: Any, state: str) -> Iterator[str]:
        """Say that the newer one has changed, and nothing of the older one."""
        since, started = len(self._server.calls), time.monotonic()
        self._server.updated(newer["id"])
        address = self._fip["floating_ip_address"]
        device = f"fpr-{newer['id'][:10]}"
        wait_for(lambda: device in _route(self._network, address), f"{address} leads to {newer['id']}", every=0.02)
        self.seconds.append(time.monotonic() - started)
        try:
            wait_for(lambda: self._is_asked(older["id"], since), "the older router is asked for", 30)
            self.asked += 1
            self.site.in_sync(newer["id"])
            wait_for(lambda: self.site.state(older["id"]) == state, f"the older router is {state}", 30)
        except AssertionError as exc:
            yield str(exc)
        if state == "degraded":
            reason = self.site.daemon.ask(f"/routers/{older['id']}")[1]["reason"]
            if newer["id"] not in reason:
                yield f"the reason does not name who has it: {reason}"
        if device not in _route(self._network, address):
            yield f"{address} has gone back to the older router"

    def _is_asked(self, router_id: str, since: int) -> bool:
        """True if the router was asked for since then; with others in one call where the agent had more to ask."""
        return any(router_id in call.args["router_ids"] for call in self._server.asked("sync_routers", since))


def _route(network: str, address: str) -> str:
    return lab.run("ip", "-n", f"fip-{network}", "route", "show", address)


def _twin(router: Any) -> Any:
    """Return a router like another one on the same external network, with networks and addresses of its own."""
    twin = copy.deepcopy(router)
    twin["id"] = f"f{twin['id'][1:]}"
    inside = [*twin["_interfaces"], *twin["_snat_router_interfaces"]]
    for port in [*inside, twin["gw_port"]]:
        port["id"] = f"f{port['id'][1:]}"
        port["mac_address"] = f"{port['mac_address'][:-5]}ff:{port['mac_address'][-2:]}"
    for port in inside:
        port["network_id"] = f"f{port['network_id'][1:]}"
    twin["gw_port"]["fixed_ips"][0]["ip_address"] = "203.0.113.240"
    twin["_floatingips"] = []
    return twin
