"""The Open vSwitch driver on a real Open vSwitch: what the tests of ports and those of faults share."""

from __future__ import annotations

import contextlib
import select
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dvr_agent.attach.openvswitch.factory import open_openvswitch
from dvr_agent.config import attach_settings, load
from dvr_agent.errors import AttachError
from dvr_agent.kernel.linux import open_kernel
from dvr_agent.state.link import Port
from tests.support import lab, ovs
from tests.support.ovs import OpenVSwitch

if TYPE_CHECKING:
    from dvr_agent.attach.openvswitch.driver import OpenVSwitchDriver
    from dvr_agent.kernel.api import Kernel

NETWORK = "11111111-2222-4333-8444-555555555555"
A, B = "qrouter-a", "qrouter-b"


def port(number: int, prefix: str = "qr-", mtu: int = 1450) -> Port:
    port_id = f"{number:08x}-aaaa-4bbb-8ccc-dddddddddddd"
    return Port(prefix + port_id[:11], port_id, NETWORK, f"fa:16:3e:00:00:{number:02x}", mtu)


ONE, TWO, THREE = port(1), port(2, mtu=1400), port(3, "sg-")


def open_driver(
    switch: OpenVSwitch, file: Path, kernel: Kernel, use_veth: object, **options: object
) -> OpenVSwitchDriver:
    """A driver with options of ``[OVS]``.

    :param file: where its configuration is written
    """
    lines = [f"[DEFAULT]\novs_use_veth = {use_veth}\n[OVS]"]
    given = {"ovsdb_connection": switch.connection, "ovsdb_timeout": 10} | options
    file.write_text("\n".join([*lines, *(f"{name} = {text}" for name, text in given.items())]))
    return open_openvswitch(attach_settings(load(["--config-file", str(file)])).ovs, kernel)


class Rig:
    """A driver, its counters, and short ways to look at what it made."""

    def __init__(self, switch: OpenVSwitch, folder: Path, use_veth: bool, **options: object) -> None:
        self.switch, self.use_veth = switch, use_veth
        self.kernel = open_kernel()
        self.counters, self.namespaces = self.kernel.counters, self.kernel.namespaces
        self._folder, self._options = folder, options
        self._drivers: list[OpenVSwitchDriver] = []
        self.driver = self.open()
        for namespace in (A, B):
            self.namespaces.create(namespace)

    def open(self, **changed: object) -> OpenVSwitchDriver:
        """Another driver, as that of an agent that was started anew."""
        options = {"use_veth": self.use_veth} | self._options | changed
        driver = open_driver(self.switch, self._folder / f"ovs-{len(self._drivers)}.conf", self.kernel, **options)
        self._drivers.append(driver)
        return driver

    def close(self) -> None:
        for driver in self._drivers:
            driver.close()

    def outer(self, one: Port) -> str:
        """Name of the port in Open vSwitch."""
        return f"tap{one.port_id[:11]}" if self.use_veth else one.device

    def inner(self, one: Port, namespace: str = A) -> dict[str, Any]:
        (found,) = lab.ip_json("link", "show", "dev", one.device, netns=namespace)
        assert isinstance(found, dict)
        return found

    def lose(self, one: Port, namespace: str = A) -> None:
        """Somebody takes the device away; one of the kernel datapath is moved, since only Open vSwitch removes it."""
        if self.inner(one, namespace)["linkinfo"]["info_kind"] == "openvswitch":
            lab.run("ip", "netns", "add", "elsewhere")
            lab.run("ip", "-n", namespace, "link", "set", one.device, "netns", "elsewhere")
        else:
            lab.run("ip", "-n", namespace, "link", "del", one.device)

    def faults(self, *ports: Port) -> dict[str, str]:
        return self.driver.check(ports)

    def writes_of_plug(self, *ports: Port, namespace: str = A) -> tuple[int, int]:
        """(transactions, writes to the kernel)"""
        written, transactions = self.counters.total(), self.transactions()
        self.driver.plug(namespace, ports)
        return self.transactions() - transactions, self.counters.total() - written

    def plugs(self, namespace: str, *ports: Port) -> bool:
        """False if a port must not be plugged yet."""
        with contextlib.suppress(AttachError):
            self.driver.plug(namespace, ports)
            return True
        return False

    def transactions(self) -> int:
        """Those that asked ovs-vswitchd for something."""
        return int(self.switch.vsctl("get", "Open_vSwitch", ".", "next_cfg"))

    def assert_whole(self, one: Port, namespace: str = A, mark: bool = True) -> None:
        inner, row = self.inner(one, namespace), self.switch.interfaces()[self.outer(one)]
        assert (inner["address"], inner["mtu"], "UP" in inner["flags"]) == (one.mac, one.mtu, True)
        assert inner["linkinfo"]["info_kind"] == ("veth" if self.use_veth else ovs.INTERNAL_KIND)
        wanted = {"iface-id": one.port_id, "iface-status": "active", "attached-mac": one.mac}
        kind = "true" if one.distributed else "false"
        marks = {"dvr-agent-namespace": namespace, "dvr-agent-distributed": kind} if mark else {}
        assert (row["external_ids"], row["error"]) == (wanted | marks, [])
        assert row["ofport"] > 0
        assert self.outer(one) in self.switch.ports()
        assert self.faults(one) == {}
        assert self.writes_of_plug(one, namespace=namespace) == (0, 0)

    def assert_reach(self) -> None:
        """Packets pass between the two namespaces' first ports, and to a VM."""
        for namespace, one, end in ((A, ONE, 1), (B, TWO, 2)):
            lab.run("ip", "-n", namespace, "addr", "replace", f"10.5.0.{end}/24", "dev", one.device)
        assert lab.ping(A, "10.5.0.2")

    def told(self, seconds: float = 10) -> bool:
        """True if the driver's descriptor becomes readable in time; it is acknowledged then."""
        readable = bool(select.select([self.driver.fileno()], [], [], seconds)[0])
        if readable:
            self.driver.acknowledge()
        return readable

    def told_now(self) -> bool:
        """The same without waiting, for news that should not come; what is on its way has time to arrive."""
        self.switch.wait()
        time.sleep(0.1)  # nothing to wait for: the monitor's thread may have nothing to say
        return self.told(0)


@contextmanager
def rigged(switch: OpenVSwitch, folder: Path, use_veth: bool, **options: object) -> Iterator[Rig]:
    rig = Rig(switch, folder, use_veth, **options)
    try:
        yield rig
    finally:
        rig.close()
