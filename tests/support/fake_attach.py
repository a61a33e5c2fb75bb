"""An attach driver on the fake kernel: plugs devices into its namespaces, and can be made to fail like all of it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from dvr_agent.attach.api import OuterPort
from dvr_agent.errors import AttachError
from dvr_agent.kernel.fake import FakeKernel
from dvr_agent.state.diff import Action, Change
from dvr_agent.state.filter import Family
from dvr_agent.state.link import Link, Port
from dvr_agent.state.wiring import Wire, Wiring


class FakeAttach:
    """Remembers outer sides by port id; they vanish with their namespace, as veth pairs do.

    ``broken`` maps a device to what is wrong with its outer side; devices in ``unpluggable`` are refused.
    """

    def __init__(self, fake: FakeKernel) -> None:
        self._fake = fake
        self.outer: dict[str, OuterPort] = {}
        self.strays: list[OuterPort] = []
        """Outer sides that outlived their namespace."""
        self.unreachable: set[str] = set()
        self.broken: dict[str, str] = {}
        self.plugged: list[str] = []
        self.released: list[str] = []
        self.prepared: list[dict[str, list[str]]] = []
        self.unpluggable: set[str] = set()

    def check(self, ports: Iterable[Port]) -> dict[str, str]:
        return {port.device: self.broken[port.device] for port in ports if port.device in self.broken}

    @property
    def is_told_by_links(self) -> bool:
        return False

    def obstacles(self, ports: Iterable[Port]) -> dict[str, str]:
        return {port.device: "its network is out of reach" for port in ports if port.network_id in self.unreachable}

    def hindrances(self, networks: Collection[str]) -> Sequence[str]:
        return ()

    def host_hindrances(self) -> Sequence[str]:
        return ()

    def filtered_families(self) -> Sequence[Family]:
        return ()

    def wiring(self) -> Wiring:
        return Wiring({one.port_id[:11]: Wire(one.outer, "") for one in self.outer.values()})

    def prepare(self, ports: Mapping[str, Sequence[Port]]) -> None:
        self.prepared.append({namespace: [port.device for port in some] for namespace, some in ports.items()})

    def plug(self, namespace: str, ports: Sequence[Port]) -> None:
        there = self._fake.inside(namespace)
        for port in ports:
            if port.device in self.unpluggable:
                raise AttachError(namespace, port.text, 5, "the test wants it to fail")
            self.broken.pop(port.device, None)
            self.plugged.append(port.device)
            self.outer[port.port_id] = OuterPort(port.port_id, f"tap{port.port_id[:11]}", namespace)
            if port.device not in there.links:
                self._fake.add_link(namespace, port.device, port.mac, port.mtu)

    def mark(self, ports: Iterable[Port]) -> None:
        pass

    def unplug(self, namespace: str, devices: Sequence[str]) -> None:
        links = [Link(device, "02:00:00:00:00:00", 1500) for device in devices]
        self._fake.kernel().interfaces.apply(namespace, [Change(Action.REMOVE, link, link) for link in links])

    def list(self) -> list[OuterPort]:
        there = self._fake.world.namespaces
        return [port for port in self.outer.values() if port.namespace in there or port in self.strays]

    def release(self, namespace: str) -> None:
        self.released.append(namespace)

    def fileno(self) -> None:
        return None

    def acknowledge(self) -> None:
        raise NotImplementedError

    def idle(self, networks: Collection[str] = (), without: Collection[str] = ()) -> Sequence[str]:
        return ()

    def tidy(self, networks: Collection[str] = ()) -> Sequence[str]:
        return ()

    def unplug_outer(self, ports: Sequence[OuterPort]) -> None:
        for port in ports:
            self.outer.pop(port.port_id, None)
            self.strays.remove(port)
