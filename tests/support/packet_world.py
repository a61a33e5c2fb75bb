"""One throw-away host with an agent (mode ``dvr_snat``), an external network with an "internet" host, and VMs."""

from __future__ import annotations

from pathlib import Path

from dvr_agent.desired.host_settings import AgentMode, HostSettings
from dvr_agent.extensions import Extension
from dvr_agent.model.parse import parse_document
from dvr_agent.reconcile.api import Result
from dvr_agent.reconcile.factory import make_reconciler
from dvr_agent.reconcile.reconciler import RouterReconciler
from tests.support import lab
from tests.support.oracle_watch import until_settled
from tests.support.packet_documents import Cloud, Network, RouterDocument, Vm

PUBLIC = Network("public", ("203.0.113.0/24", "2001:db8:f::/64"), 1500, "", ("203.0.113.2", "2001:db8:f::2"))
SCOPED = Network("scoped", ("198.18.0.0/24",), 1500, "global", ("198.18.0.2",))
INTERNET, INTERNET6, SCOPED_INTERNET = "203.0.113.1", "2001:db8:f::1", "198.18.0.1"
NODE = "node1"


class World:
    """The host, its reconciler, and everything beyond."""

    def __init__(
        self, host: lab.Host, state_path: Path, mode: AgentMode = AgentMode.DVR_SNAT, *extensions: Extension
    ) -> None:
        self.host, self.cloud = host, Cloud(NODE)
        self._bridges = {PUBLIC.id: host.bridge("br-ex"), SCOPED.id: host.bridge("br-scoped")}
        self._settings = HostSettings(host=NODE, mode=mode, extensions=frozenset(extensions))
        self._state_path = state_path
        self.reconciler = self.start_agent()
        host.vm("internet", "br-ex", (f"{INTERNET}/24", f"{INTERNET6}/64"), mtu=1500)
        host.vm("scoped-internet", "br-scoped", f"{SCOPED_INTERNET}/24", mtu=1500)

    def start_agent(self) -> RouterReconciler:
        """A reconciler that knows only what kernel and state files tell; replaces the one there was."""
        self.reconciler = make_reconciler(self._settings, self._bridges, self._state_path)
        self.reconciler.load()
        return self.reconciler

    def apply(self, *routers: RouterDocument) -> list[Result]:
        """Make them so, as the agent does when their documents arrive."""
        done = [self.reconciler.reconcile(parse_document(router.raw(), router.name)) for router in routers]
        self.reconciler.flush()
        return done

    def resync(self, *routers: RouterDocument) -> list[Result]:
        """Make them so, as the agent does in a resync."""
        self.reconciler.begin_resync()
        documents = [parse_document(router.raw(), router.name) for router in routers]
        return [self.reconciler.reconcile(document, in_resync=True) for document in documents]

    def remove(self, router: RouterDocument) -> Result:
        done = self.reconciler.remove(router.id)
        self.reconciler.flush()
        return done

    def settle(self) -> None:
        """Wait for duplicate address detection in all namespaces."""
        until_settled(sorted(path.name for path in lab.NETNS.iterdir()))

    def boot(self, *vms: Vm) -> None:
        """Start VMs: namespaces with the port's MAC, addresses, default routes and MTU."""
        for vm in vms:
            network = vm.network
            gateways = tuple(network.gateway(network.cidr_of(one)) for one in vm.addresses)
            cidrs = tuple(network.interface(one) for one in vm.addresses)
            self.host.vm(vm.name, self.host.bridge(network.bridge), cidrs, gateways, vm.mac, network.mtu)
            for behind in vm.behind:
                lab.run("ip", "-n", vm.name, "addr", "add", behind, "dev", "lo")

    def partner(self, name: str, address: str, behind: str) -> None:
        """Another host on the external network, with ``behind`` on its loopback."""
        self.host.vm(name, "br-ex", f"{address}/24", (), mtu=1500)
        lab.run("ip", "-n", name, "addr", "add", behind, "dev", "lo")

    @staticmethod
    def internet_route(destination: str, via: str, netns: str = "internet") -> None:
        """The provider routes a tenant's network to the router."""
        lab.run("ip", "-n", netns, "route", "add", destination, "via", via)


def fip_namespace(network: Network = PUBLIC) -> str:
    return f"fip-{network.id}"
