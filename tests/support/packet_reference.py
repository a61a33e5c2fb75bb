"""A host as neutron-l3-agent leaves it: a recorded scenario with VMs, and the recorded packet filter in nf_tables.

Devices, addresses, routes and rules are made by the code under test, which is held to the recordings elsewhere
(``tests/oracle``); then its packet filter is taken away and the recorded one is restored by iptables-nft.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from dvr_agent.desired.host_settings import HostSettings
from dvr_agent.kernel.host_filter import Backend, HostFilter
from dvr_agent.reconcile.api import Result
from dvr_agent.reconcile.factory import make_reconciler
from dvr_agent.reconcile.reconciler import RouterReconciler
from tests.support import lab
from tests.support.oracle_build import external_bridge, make_host, parse
from tests.support.oracle_recordings import FeatureScenario, Scenario
from tests.support.oracle_watch import until_settled
from tests.support.probes import Conversation, Pinger
from tests.support.recorded_documents import DATA, MODES

INTERNET = "internet"
LEGACY, NFT = "legacy", "nft"
TABLES = ("raw", "mangle", "nat", "filter")
NFT_TABLES = ("table ip dvr", "table ip6 dvr")
METADATA = {
    "nat": "-A neutron-l3-agent-PREROUTING -d {address} -i qr-+ -p tcp -m tcp --dport 80 -j REDIRECT --to-ports 9697",
    "filter": "-A neutron-l3-agent-INPUT -m mark --mark 0x1/0xffff -j ACCEPT\n"
    "-A neutron-l3-agent-INPUT -p tcp -m tcp --dport 9697 -j DROP",
}
"""What it adds with ``enable_metadata_proxy``, which was off when the recordings were made (neutron.agent.metadata)."""


def recorded_filter(scenario: Scenario) -> dict[str, dict[str, str]]:
    """Namespace → family ("4", "6") → the recorded packet filter, as ``iptables-restore`` takes it."""
    rules: dict[str, dict[str, str]] = json.loads((DATA / "packet_filter" / f"{scenario}.json").read_text())
    return rules


def restore_filter(rules: dict[str, dict[str, str]], variant: str) -> None:
    """Write recorded rules into the kernel as neutron-l3-agent does, by iptables of a variant."""
    for namespace, families in rules.items():
        for command, family in (("iptables", "4"), ("ip6tables", "6")):
            lab.in_netns(namespace, f"{command}-{variant}-restore", "--noflush", text=families[family])


def saved_filter(namespaces: Iterable[str]) -> str:
    """What iptables-save of both variants shows in these namespaces, for both families."""
    commands = [f"ip{six}tables-{variant}-save" for six in ("", "6") for variant in (LEGACY, NFT)]
    return "".join(lab.in_netns(namespace, command) for namespace in namespaces for command in commands)


def own_rules(namespace: str, backend: Backend) -> str:
    """Rules of ours in one packet filter of a namespace, as its own program prints them."""
    if backend == "legacy":
        saved = "".join(lab.in_netns(namespace, f"{command}-legacy-save") for command in ("iptables", "ip6tables"))
        return "\n".join(line for line in saved.splitlines() if "dvr-" in line)
    return "".join(lab.in_netns(namespace, "nft", "list", *table.split(), check=False) for table in NFT_TABLES)


def nft_tables(namespace: str) -> set[str]:
    """Tables of nf_tables, for example ``table ip nat``."""
    return set(lab.in_netns(namespace, "nft", "list", "tables").splitlines())


class ReferenceHost:
    """A host of a scenario.

    :param vms: name → address of VMs on this host; beside them there is ``internet`` at the gateway of the network
    """

    def __init__(
        self, host: lab.Host, state_path: Path, scenario: str, vms: dict[str, str], name: str = "compute1"
    ) -> None:
        is_feature = (DATA / "feature_documents" / f"{scenario}-{name}.json").exists()
        self.scenario = FeatureScenario(scenario, name) if is_feature else Scenario(scenario, name)
        self.host, self.state_path = host, state_path
        self.router = parse(self.scenario)
        self.settings = HostSettings(name, MODES[name])
        self.scenario.seed(state_path)
        builder = make_host(host, name, [self.scenario], state_path, self.settings.mode)
        builder.reconcile(self.router)
        builder.flush()
        self.recorded = recorded_filter(self.scenario)
        self.boot(vms)
        self.clear_own()

    @property
    def namespaces(self) -> list[str]:
        return sorted(self.recorded)

    @property
    def qrouter(self) -> str:
        return f"qrouter-{self.router.id}"

    @property
    def snat(self) -> str:
        return f"snat-{self.router.id}"

    def boot(self, vms: dict[str, str]) -> None:
        macs = {
            fixed["ip_address"]: port["mac_address"]
            for ports in self.scenario.document["ports_by_subnet"].values()
            for port in ports
            for fixed in port["fixed_ips"]
        }
        for name, address in vms.items():
            port = next(p for p in self.scenario.router["_interfaces"] if _subnet(p, address))
            gateway = _subnet(port, address)
            bridge = self.host.bridge(f"brq{port['network_id'][:11]}")
            self.host.vm(name, bridge, f"{address}/24", gateway, macs.get(address), port["mtu"])
        gateway_port = self.scenario.router["gw_port"]
        outside = next(s["gateway_ip"] for s in gateway_port["subnets"] if ":" not in s["cidr"])
        self.host.vm(INTERNET, external_bridge(gateway_port["network_id"]), f"{outside}/24", mtu=1500)
        until_settled(sorted(path.name for path in lab.NETNS.iterdir()))

    def clear_own(self) -> None:
        for namespace in self.namespaces:
            if HostFilter.backend == "nftables":
                self._delete(namespace, nft_tables(namespace))
                continue
            for command in ("iptables-legacy", "ip6tables-legacy"):
                for table in TABLES:
                    for words in (["-F"], ["-X"]):
                        lab.in_netns(namespace, command, "-t", table, *words)

    def clear_nft(self, namespace: str) -> None:
        """Remove what iptables-nft has made."""
        self._delete(namespace, nft_tables(namespace) - set(NFT_TABLES))

    @staticmethod
    def _delete(namespace: str, tables: Iterable[str]) -> None:
        for table in tables:
            lab.in_netns(namespace, "nft", "delete", *table.split())

    def restore(self, variant: str = NFT, metadata: bool = False) -> None:
        """The recorded rules, as the reference agent writes them."""
        rules = dict(self.recorded)
        if metadata:
            rules[self.qrouter] = {family: with_metadata(text, family) for family, text in rules[self.qrouter].items()}
        restore_filter(rules, variant)

    def reconciler(self, metadata: bool = False) -> RouterReconciler:
        """A new process of our agent."""
        networks = {self.scenario.external_network}
        bridges = {network: external_bridge(network) for network in networks if network}
        reconciler = make_reconciler(replace(self.settings, metadata=metadata), bridges, self.state_path)
        reconciler.load()
        return reconciler

    def take_over(self, metadata: bool = False) -> Result:
        reconciler = self.reconciler(metadata)
        outcome = reconciler.reconcile(self.router)
        reconciler.flush()
        return outcome

    def own(self, backend: Backend | None = None) -> dict[str, str]:
        """Rules of ours by namespace; by default in the packet filter that routers have now."""
        return {namespace: own_rules(namespace, backend or HostFilter.backend) for namespace in self.namespaces}

    def saved(self, variant: str) -> dict[str, str]:
        """What iptables-save of that variant shows, by namespace: chains and rules only."""
        return {
            namespace: "\n".join(
                line
                for command in ("iptables", "ip6tables")
                for line in lab.in_netns(namespace, f"{command}-{variant}-save").splitlines()
                if line.startswith((":", "-A")) and ("neutron" in line or "dvr-" in line)
            )
            for namespace in self.namespaces
        }


def with_metadata(text: str, family: str) -> str:
    """The rules with those of the metadata proxy."""
    address = "169.254.169.254/32" if family == "4" else "fe80::a9fe:a9fe/128"
    out, table = [], ""
    for line in text.splitlines():
        if line.startswith("*"):
            table = line[1:]
        if line == "COMMIT" and table in METADATA:
            out.append(METADATA[table].format(address=address))
        out.append(line)
    return "\n".join(out) + "\n"


def _subnet(port: dict[str, object], address: str) -> str:
    """The subnet's gateway if the address is in a /24 of the port, else nothing."""
    fixed = port["fixed_ips"]
    assert isinstance(fixed, list)
    found = [one["ip_address"] for one in fixed]
    return next((one for one in found if one.rpartition(".")[0] == address.rpartition(".")[0]), "")


class NewConnections(Pinger):
    """Echo requests each of which is a connection of its own to connection tracking."""

    def _identity(self, sequence: int) -> int:
        return (self._id ^ 0x8000) + sequence & 0xFFFF  # far from those of an ordinary one next to it


@contextlib.contextmanager
def unharmed(*pairs: tuple[str, str], streams: tuple[tuple[str, str], ...] = ()) -> Iterator[None]:
    """While the block runs, each (namespace, target) is pinged 50 times a second, twice: as one connection and as many.

    Asserts at its end that no answer is missing, and that no stream was reset or stood still.
    """
    with contextlib.ExitStack() as stack:
        flows = [stack.enter_context(Conversation(*pair)) for pair in streams]
        kept = [stack.enter_context(Pinger(*pair)) for pair in pairs]
        new = [stack.enter_context(NewConnections(*pair)) for pair in pairs]
        yield
        for one in (*kept, *new):  # the block may be over in a moment: what comes right after it counts as well
            one.run_for(5)
    lost = {
        (kind, *pair): one.lost
        for kind, group in (("kept", kept), ("new", new))
        for pair, one in zip(pairs, group, strict=True)
        if one.lost
    }
    assert lost == {}
    assert [pair for pair, flow in zip(streams, flows, strict=True) if flow.broken] == []
    assert all(one.sent > 10 for one in (*kept, *new))
