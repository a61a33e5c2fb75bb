"""A host with a living router, whose packets are counted, and a second router that things happen to."""

from __future__ import annotations

import copy
import os
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from tests.support import lab
from tests.support.daemon_lab import Daemon
from tests.support.daemon_site import FLOATING, RECORDED, Site, neighbour_router, snapshot, with_vms
from tests.support.probes import Pinger
from tests.support.waiting import wait_for

VICTIM = neighbour_router(1)
VICTIM_ID: str = VICTIM["router"]["id"]
FILE = "victim"


def changed() -> Any:
    """Return the victim's document with another floating IP, without neighbours, and with an extra route."""
    document = copy.deepcopy(VICTIM)
    for floating in document["router"]["_floatingips"]:
        floating["floating_ip_address"] = "198.51.1.9"
    document["ports_by_subnet"] = {}
    document["router"]["routes"] = [{"destination": "192.0.2.0/24", "nexthop": "10.2.1.77"}]
    return document


class LivingHost:
    """The calling thread's network namespace as a host: a router in use, and a victim to come.

    :ivar pingers: count the packets of the living router: from an instance by its floating IP, and to it
    :ivar puts: how many documents the victim has had: the last one says so in its name
    """

    def __init__(self, ping: bool = True) -> None:
        self._exits, self._pings, self._ping = ExitStack(), ExitStack(), ping
        self.pingers: list[Pinger] = []
        self.puts = 0

    def __enter__(self) -> Self:
        base = Path(self._exits.enter_context(tempfile.TemporaryDirectory(prefix="dvr-living-")))
        self.site = Site(base)
        self._exits.callback(self.daemon.kill)
        lab.run("ip", "link", "set", "lo", "up")
        with_vms(self.site, lab.Host())
        self.site.write(RECORDED)
        self.site.daemon.start()
        self.bare = picture()
        if self._ping:
            wait_for(lambda: lab.ping("internet", FLOATING), "the floating IP answers")
            wait_for(lambda: lab.ping("vm", "203.0.113.1"), "the outside answers")
            for source, target in (("internet", FLOATING), ("vm", "203.0.113.1")):
                self.pingers.append(self._pings.enter_context(Pinger(source, target)))
        return self

    def __exit__(self, *_: object) -> None:
        self._pings.close()
        self._exits.close()

    @property
    def daemon(self) -> Daemon:
        """The daemon."""
        return self.site.daemon

    def pid(self) -> int:
        """Return the daemon's process id."""
        assert self.daemon.process is not None
        return self.daemon.process.pid

    def put(self, document: Any) -> None:
        """Write the victim's document; None: delete it."""
        if document is None:
            (self.daemon.routers / f"{FILE}.json").unlink(missing_ok=True)
        else:
            self.puts += 1
            named = {**document, "router": {**document["router"], "name": self._name()}}
            self.site.write(named, FILE)

    def settled(self, document: Any) -> bool:
        """True if both routers are what they should be, or the victim is gone and its removal done."""
        status = self.daemon.status()
        states = {one["name"]: one["state"] for one in status["routers"]}
        names = [RECORDED["router"]["name"], *([] if document is None else [self._name()])]
        return states == dict.fromkeys(names, "in sync") and status["state"] == "in sync" and not status["queue_depth"]

    def settle(self, document: Any) -> dict[str, object]:
        """Wait until both routers are in sync; returns what independent tools see then."""
        wait_for(lambda: self.settled(document), f"in sync: {'without' if document is None else 'with'} the victim")
        if document is None:
            wait_for(lambda: not self.left_overs(), "nothing of the victim is left")
        return picture()

    def _name(self) -> str:
        """Name of the victim's last document: by it the status tells one from the next."""
        return f"victim {self.puts}"

    def left_overs(self) -> list[str]:
        """Return what is in the kernel, or in files, of a victim that was removed."""
        names = [f"namespace {name}" for name in os.listdir(lab.NETNS) if VICTIM_ID in name]
        ports = [VICTIM["router"]["gw_port"], *VICTIM["router"]["_interfaces"]]
        ports += VICTIM["router"]["_snat_router_interfaces"]
        taps = {f"tap{port['id'][:11]}" for port in ports} | {f"{end}-{VICTIM_ID[:10]}" for end in ("rfp", "fpr")}
        links = {link["ifname"] for link in lab.ip_json("link")}
        links |= {link["ifname"] for link in lab.ip_json("link", netns=next(iter(self._fip()), None))}
        files = [str(path) for path in self.daemon.state.rglob("*") if path.is_file() and _is_left(path)]
        return [*names, *(f"device {name}" for name in sorted(taps & links)), *(f"file {path}" for path in files)]

    def picture(self) -> dict[str, object]:
        """Return :func:`picture`."""
        return picture()

    def lost(self) -> tuple[int, int]:
        """Return (requests without an answer, requests); ends the pings."""
        self._pings.close()
        return sum(len(one.lost) for one in self.pingers), sum(one.sent for one in self.pingers)

    def faults_in_log(self) -> list[str]:
        """Return lines of the log that no operator should ever see."""
        lines = f"{self.daemon.out}{self.daemon.err}".splitlines()
        return [line for line in lines if "this is a bug" in line or line.startswith("Traceback")]

    def _fip(self) -> list[str]:
        return [name for name in os.listdir(lab.NETNS) if name.startswith("fip-")]


def picture() -> dict[str, object]:
    """Return what independent tools see, without what may differ: the priority of a floating IP's rule.

    A rule that was there keeps its priority, whichever floating IP it was made for.
    """
    found = snapshot()
    for parts in found.values():
        rules: list[str] = parts["rules"]  # type: ignore[index]
        rules[:] = sorted(line.partition(":")[2] if "lookup 16" in line else line for line in rules)
    return found


def _is_left(path: Path) -> bool:
    if path.name == "history.jsonl":  # it tells what was, on purpose
        return False
    return VICTIM_ID in path.name or VICTIM_ID in path.read_text(errors="replace")
