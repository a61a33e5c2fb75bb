"""A host with one distributed router, on which faults are made and explained; built once, repaired after each."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from dvr_agent.cli.why.answer import Answer, answer
from dvr_agent.cli.why.gather.facts import read_facts
from dvr_agent.config import load
from dvr_agent.errors import NotSupportedError
from dvr_agent.kernel.host_filter import HostFilter
from dvr_agent.model.parse import parse_document
from tests.support import lab
from tests.support.packet_documents import Network, RouterDocument, Vm
from tests.support.packet_world import NODE, PUBLIC, SCOPED, World

BLUE = Network("blue", ("10.1.0.0/24",))
FIP, OTHER_FIP, CENTRAL, GATEWAY = "203.0.113.10", "203.0.113.11", "203.0.113.12", "203.0.113.3"


class WhyRig:
    """One router in sync, instances with devices named as Nova names them, and ``dvrctl why`` without the daemon."""

    def __init__(self, host: lab.Host, base: Path) -> None:
        self.base, self.documents = base, base / "routers"
        self.documents.mkdir()
        self.world = World(host, base / "state")
        cloud = self.world.cloud
        self.one = cloud.vm("vm1", BLUE, "10.1.0.5")
        self.other = cloud.vm("vm2", BLUE, "10.1.0.6")
        self.third = cloud.vm("vm3", BLUE, "10.1.0.7", host="")
        self.router = cloud.router("one", BLUE).gateway(PUBLIC, GATEWAY)
        self.router.floating_ip(FIP, self.one).floating_ip(OTHER_FIP, self.other)
        self.router.floating_ip(CENTRAL, self.third, central=True)
        self.write(self.router)
        self.repair()
        self.world.boot(self.one, self.other)
        self.uplink = self._outer("br-ex", "vm")
        for vm, name in zip((self.one, self.other), self._outers(BLUE.bridge, "vm"), strict=True):
            lab.run("ip", "link", "set", name, "name", self.tap(vm))
        self.config = base / "dvr-agent.conf"
        self.config.write_text(
            f"[DEFAULT]\nhost = {NODE}\nagent_mode = dvr_snat\nstate_path = {base / 'state'}\n"
            f"[directory]\npath = {self.documents}\n[dvr_agent]\nadmin_socket = {base}/admin.sock\n"
            f"packet_filter = {HostFilter.backend}\n"
            f"[bridge]\nexternal_networks = {PUBLIC.id}:br-ex,{SCOPED.id}:br-scoped\n"
        )
        self.read_configuration()

    def read_configuration(self) -> None:
        self.conf = load(["--config-file", str(self.config)], prog="dvrctl")

    @contextlib.contextmanager
    def configured(self, *lines: str) -> Iterator[None]:
        """Have these lines at the end of the configuration inside the block."""
        before = self.config.read_text()
        self.config.write_text(before + "\n".join(lines) + "\n")
        self.read_configuration()
        try:
            yield
        finally:
            self.config.write_text(before)
            self.read_configuration()

    def write(self, router: RouterDocument, **changed: object) -> Path:
        """Write a router's document, with values of the router changed."""
        path = self.documents / f"{router.name}.json"
        envelope = router.envelope()
        envelope["router"] |= changed
        path.write_text(json.dumps(envelope))
        return path

    @contextlib.contextmanager
    def document(self, **changed: object) -> Iterator[None]:
        """Have another document of the router inside the block, and the kernel as the agent makes it of that one."""
        path = self.write(self.router, **changed)
        try:
            self._apply(path)
            yield
        finally:
            self.write(self.router)
            self.repair()

    def _apply(self, path: Path) -> None:
        router = parse_document(path.read_bytes(), path.name)
        with contextlib.suppress(NotSupportedError):
            if router.admin_state_up:
                self.world.reconciler.reconcile(router)
            else:
                self.world.reconciler.remove(router.id)

    def repair(self) -> None:
        """Make the kernel agree with the document, as the agent does."""
        self.world.apply(self.router)

    def why(self, text: str, probe: bool = False) -> Answer:
        return answer(read_facts(self.conf, text, probe=probe))

    def explain(self, text: str, router: str) -> Answer:
        return answer(read_facts(self.conf, text, router))

    @cached_property
    def names(self) -> dict[str, str]:
        """What commands of faults name in braces."""
        router = self.router.envelope()["router"]
        rfp, fpr = (f"{prefix}{self.router.id}"[:14] for prefix in ("rfp-", "fpr-"))
        interface, agent = router["_interfaces"][0]["id"], router["_floatingip_agent_interfaces"][0]["id"]
        (rule,) = lab.ip_json("rule", "show", "iif", fpr, netns=f"fip-{PUBLIC.id}")
        return {
            "Q": self.router.qrouter, "F": f"fip-{PUBLIC.id}", "S": self.router.snat_namespace, "fip": FIP,
            "rfp": rfp, "fpr": fpr, "qr": f"qr-{interface}"[:14], "fg": f"fg-{agent}"[:14],
            "qg": f"qg-{router['gw_port_id']}"[:14], "tapqr": f"tap{interface}"[:14], "tapfg": f"tap{agent}"[:14],
            "brq": BLUE.bridge, "uplink": self.uplink, "tap1": self.tap(self.one), "mac1": self.one.mac,
            "tap2": self.tap(self.other), "wrong_mac": "fa:16:3e:00:00:aa",
            "N": str(rule["table"]),
        }  # fmt: skip

    @staticmethod
    def tap(vm: Vm) -> str:
        return f"tap{vm.port()['id'][:11]}"

    def _outer(self, bridge: str, prefix: str) -> str:
        return next(iter(self._outers(bridge, prefix)))

    @staticmethod
    def _outers(bridge: str, prefix: str) -> list[str]:
        links = lab.ip_json("link", "show", "master", bridge)
        return sorted(link["ifname"] for link in links if link["ifname"].startswith(prefix))
