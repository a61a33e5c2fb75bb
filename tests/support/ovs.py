"""Open vSwitch for tests: a real ovsdb-server and a real ovs-vswitchd with the userspace datapath.

``DVR_TEST_OVS_DATAPATH=system`` chooses the kernel's datapath, which not every kernel has; then it is the one of the
calling thread's network namespace.

Everything it keeps lies in a directory of its own under the sandbox's private ``/run``, so that several run side by
side and the host's Open vSwitch is never seen.  The processes end with the one that started them.  Made and read with
``ovs-vsctl``, never with the code under test.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from signal import Signals
from typing import Any

from tests.support import lab
from tests.support.requirements import lacks, require
from tests.support.waiting import wait_for

SCHEMA = Path("/usr/share/openvswitch/vswitch.ovsschema")
DATAPATH = os.environ.get("DVR_TEST_OVS_DATAPATH", "netdev")
"""As Open vSwitch calls them: ``netdev`` is the userspace datapath, ``system`` the kernel's."""
INTERNAL_KIND = "openvswitch" if DATAPATH == "system" else "tun"
"""Kind of an internal port's device."""
HOST_DEVICES = frozenset({"lo", "br-int", "ovs-system" if DATAPATH == "system" else "ovs-netdev"})
"""What a host with the bridge ``br-int`` has, and no port of a router."""
TUN = Path("/dev/net/tun")
"""The userspace datapath makes its ports by it."""
_numbers = itertools.count(1)


def require_open_vswitch() -> None:
    """Skip the test, in CI fail it, if Open vSwitch cannot run here."""
    for program in ("ovsdb-server", "ovs-vswitchd", "ovs-vsctl", "ovsdb-tool", SCHEMA):
        require(program, "openvswitch-switch")
    if DATAPATH == "system" and not Path("/sys/module/openvswitch").exists():
        lacks("the module openvswitch is not loaded")
    if DATAPATH == "netdev" and not os.access(TUN, os.R_OK | os.W_OK):
        lacks(f"{TUN} cannot be opened")


class OpenVSwitch:
    """One Open vSwitch in the network namespace of the calling thread, with the bridge ``br-int``."""

    def __init__(self, folder: Path, *remotes: str) -> None:
        """
        :param remotes: further ones of ovsdb-server, such as ``ptcp:6640:127.0.0.1`` or its ``--private-key=…``
        """
        self.folder = folder
        self.socket = folder / "db.sock"
        self.connection = f"unix:{self.socket}"
        self._remotes = remotes
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        names = ("OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR", "OVS_SYSCONFDIR")
        self._environment = os.environ | dict.fromkeys(names, str(folder))
        folder.mkdir(parents=True)
        self._run("ovsdb-tool", "create", self._database, SCHEMA)

    @property
    def _database(self) -> Path:
        return self.folder / "conf.db"

    def start(self) -> None:
        self.start_ovsdb()
        self.vsctl("--no-wait", "init")
        self.start_vswitchd()
        self.add_bridge("br-int")

    def start_ovsdb(self) -> None:
        remotes = [
            f"--remote=punix:{self.socket}",
            *(one if "=" in one else f"--remote={one}" for one in self._remotes),
        ]
        self._start("ovsdb-server", str(self._database), *remotes)
        wait_for(self._listens, "ovsdb-server listens")

    def start_vswitchd(self) -> None:
        # Without the kernel's datapath it does not even look for one.
        self._start("ovs-vswitchd", self.connection, *(["--disable-system"] if DATAPATH == "netdev" else []))
        self.wait()

    def stop_ovsdb(self, how: Signals = signal.SIGTERM) -> None:
        self._stop("ovsdb-server", how)

    def stop_vswitchd(self, how: Signals = signal.SIGTERM) -> None:
        """Stopped or killed, the userspace datapath goes with the process, its devices too; the kernel's stays."""
        self._stop("ovs-vswitchd", how)

    def start_anew(self) -> None:
        """With an empty database, as on a host whose file was lost."""
        self.stop_vswitchd()
        self.stop_ovsdb()
        self._database.unlink()
        self._run("ovsdb-tool", "create", self._database, SCHEMA)
        self.start()

    def signal(self, program: str, number: Signals) -> None:
        """SIGSTOP makes it hang, SIGCONT lets it go on."""
        self._processes[program].send_signal(number)

    def close(self) -> None:
        for program in list(self._processes):
            self._stop(program, signal.SIGKILL)
        shutil.rmtree(self.folder)

    def vsctl(self, *words: object, check: bool = True) -> str:
        """Runs ovs-vsctl, which waits until ovs-vswitchd has done it (unless told ``--no-wait``)."""
        return self._run("ovs-vsctl", f"--db={self.connection}", "--timeout=20", *words, check=check)

    def wait(self) -> None:
        """Until ovs-vswitchd has seen and done all that is in the database."""
        self.vsctl("set", "Open_vSwitch", ".", f"external_ids:tests={next(_numbers)}")

    def add_bridge(self, name: str) -> None:
        self.vsctl("--may-exist", "add-br", name, "--", "set", "Bridge", name, f"datapath_type={DATAPATH}")
        lab.run("sysctl", "-qw", f"net.ipv6.conf.{name}.disable_ipv6=1")

    def rows(self, table: str, *columns: str) -> list[dict[str, Any]]:
        """The rows of a table, sets as lists (or the value, if it is one), maps as dictionaries."""
        found = json.loads(self.vsctl("-f", "json", f"--columns={','.join(columns)}", "list", table))
        return [dict(zip(found["headings"], map(plain, row), strict=True)) for row in found["data"]]

    def interfaces(self) -> dict[str, dict[str, Any]]:
        columns = ("name", "type", "external_ids", "mtu_request", "mac", "mac_in_use", "ofport", "error")
        return {row["name"]: row for row in self.rows("Interface", *columns)}

    def ports(self, bridge: str = "br-int") -> set[str]:
        return set(self.vsctl("list-ports", bridge).split())

    def transactions(self) -> int:
        """How many changes the database has recorded so far."""
        return self._run("ovsdb-tool", "show-log", self._database).count("record ")

    def vm(self, name: str, cidr: str, mac: str, bridge: str = "br-int") -> str:
        """A "VM": a namespace with an internal port of the bridge, as the reference's VMs were plugged.

        With the kernel's datapath a veth pair: a port of it that gets another name is none any more.
        """
        device = f"tap{next(_numbers)}"
        ids = (f"external_ids:iface-id={name}", "external_ids:iface-status=active", f"external_ids:attached-mac={mac}")
        lab.run("ip", "netns", "add", name)
        if DATAPATH == "system":
            lab.run("ip", "link", "add", device, "up", "type", "veth", "peer", "eth0", "address", mac, "netns", name)
            self.vsctl("add-port", bridge, device, "--", "set", "Interface", device, *ids)
        else:
            self.vsctl("add-port", bridge, device, "--", "set", "Interface", device, "type=internal", *ids)
            lab.run("ip", "link", "set", device, "netns", name, "name", "eth0", "address", mac)
        lab.run("ip", "-n", name, "link", "set", "eth0", "up")
        lab.run("ip", "-n", name, "addr", "add", cidr, "dev", "eth0")
        return name

    def _run(self, *words: object, check: bool = True) -> str:
        done = subprocess.run(
            [str(word) for word in words],
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if check and done.returncode:
            raise AssertionError(f"{' '.join(map(str, words))} → {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def _start(self, program: str, *words: str) -> None:
        assert program not in self._processes, f"{program} runs"
        log = f"--log-file={self.folder / program}.log"
        quiet = ("-vconsole:off", "-vsyslog:off", "--unixctl=" + str(self.folder / f"{program}.ctl"))
        self._processes[program] = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", program, *words, log, *quiet],
            env=self._environment,
            stdin=subprocess.DEVNULL,
        )

    def _stop(self, program: str, how: Signals) -> None:
        process = self._processes.pop(program)
        process.send_signal(how)
        if how is signal.SIGTERM:
            process.send_signal(signal.SIGCONT)
        process.wait(30)

    def _listens(self) -> bool:
        assert self._processes["ovsdb-server"].poll() is None, "ovsdb-server ended"
        with socket.socket(socket.AF_UNIX) as caller:
            return caller.connect_ex(str(self.socket)) == 0


def plain(value: Any) -> Any:
    """A value in ``ovs-vsctl -f json`` notation (RFC 7047, 5.1)."""
    if isinstance(value, list) and value and value[0] == "set":
        return [plain(one) for one in value[1]]
    if isinstance(value, list) and value and value[0] == "map":
        return {plain(key): plain(one) for key, one in value[1]}
    return value


@contextlib.contextmanager
def open_vswitch(*remotes: str) -> Iterator[OpenVSwitch]:
    """A running one; call it inside ``fresh_host()``."""
    require_open_vswitch()
    switch = OpenVSwitch(Path(f"/run/ovs-{os.getpid()}-{next(_numbers)}"), *remotes)
    try:
        switch.start()
        yield switch
    finally:
        switch.close()
