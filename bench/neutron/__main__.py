"""``python -m bench.neutron``: both agents on the same cloud, one after the other, and the table."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

from bench.neutron import report
from bench.neutron.measure import OURS, REFERENCE, Database, Figures, associate, delete, log, start_up, stop
from bench.neutron.tenants import Tenant, Tenants
from tests.support.cloud import sandbox
from tests.support.cloud.cloud import Cloud
from tests.support.cloud.config import HostPlan
from tests.support.cloud.host import Host
from tests.support.waiting import wait_for

DEFAULT_ROUTERS = (10,)
KINDS = {
    "distributed": {"distributed": True},
    "legacy": {"distributed": False, "ha": False},
    "ha": {"distributed": False, "ha": True},
    "ha-distributed": {"distributed": True, "ha": True},
}
RPC_TIMEOUT = 120
MORE_ADDRESSES = "203.0.120.0/22"
"""A hundred routers need more than the external network's first subnet has."""


def main(arguments: Sequence[str]) -> int:
    options = _options(arguments)
    sandbox.enter([sys.executable, "-m", "bench.neutron", *arguments])
    began = time.monotonic()
    bench = Bench(options.mode, KINDS[options.kind])
    found: list[Figures] = []
    for routers in options.routers:
        bench.have(routers)
        found += [bench.measure(agent, routers) for agent in options.agents]
        print(report.table(found, routers), flush=True)
    print(report.about(options.mode, options.kind, time.monotonic() - began))
    return 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench.neutron",
        description="dvr-agent and neutron-l3-agent as the L3 agent of a real Neutron, in private namespaces.",
    )
    parser.add_argument("--routers", type=_numbers, default=DEFAULT_ROUTERS, help="how many, e.g. 10,50,100")
    parser.add_argument("--mode", choices=["dvr", "dvr_snat"], default="dvr_snat", help="agent_mode of the host")
    parser.add_argument("--kind", choices=list(KINDS), default="distributed", help="of all routers")
    parser.add_argument("--agents", type=lambda text: text.split(","), default=[OURS, REFERENCE], help="in this order")
    return parser.parse_args(arguments)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(sorted(int(word) for word in text.split(",")))


class Bench:
    """One cloud with one host, which is replaced by an empty one for each measurement."""

    def __init__(self, mode: str, kind: dict[str, bool]) -> None:
        self._cloud = Cloud([HostPlan(1, mode)], rpc_timeout=RPC_TIMEOUT)
        self._cloud.start()
        self._external = self._cloud.external["physnet1"]
        self._cloud.api.subnet(self._external, MORE_ADDRESSES, {})
        self._tenants = Tenants(self._cloud.api, self._external, self._host.name, **kind)
        self._all: list[Tenant] = []
        self._database = Database()

    @property
    def _host(self) -> Host:
        return self._cloud.hosts[0]

    def have(self, routers: int) -> None:
        """Make the routers that are missing, and let the server schedule them."""
        log(f"{routers} routers: made by the API …")
        self._all += self._tenants.make(routers - len(self._all))
        # Not part of what is measured: the first agent that asks has the server decide who hosts what.
        self._host.start_dvr_agent()
        wait_for(lambda: not self._database.inactive(), "all floating IPs are ACTIVE", 600, every=0.5)
        stop(self._host)

    def measure(self, agent: str, routers: int) -> Figures:
        """Everything with one agent, beginning with an empty host."""
        self._cloud.replace(self._host)
        self._database.forget_statuses()
        log(f"{routers} routers: {agent}, empty host …")
        manager = self._host.manager()  # systemd keeps descriptors for ours from one to the other
        cold = start_up(self._host, agent, routers, lambda: not self._database.inactive(), log, manager)
        log(f"{routers} routers: {agent}, restart …")
        restart = start_up(self._host, agent, routers, None, log, manager)
        figures = Figures(agent, routers, cold, restart)
        self._single(figures)
        return figures

    def _single(self, figures: Figures) -> None:
        """One floating IP, one router deleted, with all the others there."""
        log(f"{figures.routers} routers: {figures.agent}, single floating IPs and a deletion …")
        tenant = self._tenants.make(1, floating_ips=10)[0]
        if figures.agent == OURS:
            self._host.start_dvr_agent()
        else:
            self._host.start_neutron_l3()
        wait_for(lambda: not self._database.inactive(), "all floating IPs are ACTIVE", 600, every=0.2)
        busy = self._tenants.make(1, floating_ips=1)[0]
        wait_for(lambda: not self._database.inactive(), "all floating IPs are ACTIVE", 600, every=0.2)
        figures.associations = associate(
            self._host, figures.agent, busy, self._tenants, self._cloud.api, self._external
        )
        figures.delete_all, figures.delete_last = delete(self._host, tenant, self._tenants)
        delete(self._host, busy, self._tenants)
        stop(self._host)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
