"""A router whose job is interfered with, instances behind it, and new connections through every address of it.

Another router on the same external network, and the addresses whose way is the same before and after a change, have
pings running all the time.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Self

from bench.reliability.gate import Gate, open_gated
from dvr_agent.desired.host_settings import AgentMode, HostSettings
from dvr_agent.model.parse import parse_document
from dvr_agent.model.router import Router
from dvr_agent.reconcile.reconciler import RouterReconciler
from tests.support import lab
from tests.support.packet_documents import Network, RouterDocument
from tests.support.packet_world import INTERNET, NODE, PUBLIC, World, fip_namespace
from tests.support.probes import Echo, Flow, Mirror, Pinger, Stream

RED, BLUE, GREEN = (
    Network("red", ("10.1.0.0/24",)),
    Network("blue", ("10.2.0.0/24",)),
    Network("green", ("10.3.0.0/24",)),
)
FIPS = ("203.0.113.51", "203.0.113.52", "203.0.113.53")
GATEWAY, OTHER_GATEWAY = "203.0.113.10", "203.0.113.11"
GATEWAYS = frozenset({GATEWAY, OTHER_GATEWAY})
BESIDE, BESIDE_FIP = "203.0.113.20", "203.0.113.61"
VMS = ("one", "two", "three")
FIP = fip_namespace()
PORT = 7000
BRIEF, LONG = 0.1, 5.0
"""Seconds in which an answer comes where none has to, and where one has to."""
Edit = Callable[[RouterDocument, "Site"], object]


def _nothing(_router: RouterDocument, _site: Site) -> None:
    pass


class Scenario(NamedTuple):
    """A change: what the router is like before and after it.

    :ivar begins: there is a router before
    :ivar ends: there is one after
    """

    before: Edit
    after: Edit
    begins: bool = True
    ends: bool = True


def _fip(number: int, vm: str, central: bool = False) -> Edit:
    return lambda router, site: router.floating_ip(FIPS[number], site.world.cloud.vms[vm], central=central)


def _without(number: int) -> Edit:
    return lambda router, _site: router.no_floating_ip(FIPS[number])


def _all(*edits: Edit) -> Edit:
    def edit(router: RouterDocument, site: Site) -> None:
        for one in edits:
            one(router, site)

    return edit


def _route(*routes: tuple[str, str]) -> Edit:
    return lambda router, _site: router.routes.__setitem__(slice(None), routes)


def _networks(*networks: Network) -> Edit:
    return lambda router, _site: router.networks.__setitem__(slice(None), networks)


def _gateway(*addresses: str) -> Edit:
    return lambda router, _site: router.gateway(PUBLIC, *addresses)


LOCAL, CENTRAL = _fip(0, "one"), _fip(0, "one", central=True)
FULL = _all(LOCAL, _fip(1, "two", central=True), _networks(RED, BLUE), _route(("192.0.2.0/24", "10.1.0.13")))
SCENARIOS: dict[str, Scenario] = {
    "build": Scenario(_nothing, FULL, begins=False),
    "first floating IP": Scenario(_nothing, LOCAL),
    "another floating IP": Scenario(LOCAL, _fip(1, "two")),
    "central floating IP": Scenario(_nothing, CENTRAL),
    "moved": Scenario(LOCAL, _all(_without(0), _fip(0, "two"))),
    "replaced": Scenario(LOCAL, _all(_without(0), _fip(1, "one"))),
    "removed": Scenario(_all(LOCAL, _fip(1, "two")), _without(0)),
    "last one removed": Scenario(LOCAL, _without(0)),
    "local to central": Scenario(_all(LOCAL, _fip(1, "two")), CENTRAL),
    "central to local": Scenario(_all(CENTRAL, _fip(1, "two")), LOCAL),
    "crossing": Scenario(_all(LOCAL, _fip(1, "two", central=True)), _all(CENTRAL, _fip(1, "two"), _fip(2, "three"))),
    "gateway address": Scenario(LOCAL, _gateway(OTHER_GATEWAY)),
    "another network": Scenario(LOCAL, _all(_networks(RED, BLUE), _route(("192.0.2.0/24", "10.2.0.13")))),
    "network removed": Scenario(_all(LOCAL, _networks(RED, BLUE)), _networks(RED)),
    "extra route": Scenario(_all(LOCAL, _route(("192.0.2.0/24", "10.1.0.13"))), _route(("192.0.2.0/24", "10.1.0.12"))),
    "everything": Scenario(_nothing, _all(FULL, _fip(2, "three"), _gateway(OTHER_GATEWAY))),
    "router removed": Scenario(FULL, _nothing, ends=False),
}


@dataclass
class Ways:
    """Where new connections come out.

    :ivar out: instance → the address that the outside sees; None: it gets no answer
    :ivar into: floating IP → the instance that answers; None: none does
    :ivar central: floating IPs, and their instances, that go through the snat namespace
    """

    out: dict[str, str | None] = field(default_factory=dict)
    into: dict[str, str | None] = field(default_factory=dict)
    central: set[str] = field(default_factory=set, compare=False)

    def __len__(self) -> int:
        return len(self.out) + len(self.into)

    def of(self, name: str) -> str | None:
        """Return where new connections of an instance, or to a floating IP, come out."""
        return self.out[name] if name in self.out else self.into[name]

    def changing_sides(self, other: Ways) -> set[str]:
        """Return the floating IPs, and their instances, that go through the other namespace there.

        Their way out and their ARP answer change by two writes in two namespaces, which no order makes one.
        """
        floating = {address for address, vm in self.into.items() if vm is not None and other.into[address] is not None}
        instances = {vm for address in floating for vm in (self.into[address], other.into[address]) if vm is not None}
        return (self.central ^ other.central) & (floating | instances)

    def faults(self, old: Ways, new: Ways) -> Iterator[tuple[str, str]]:
        """Yield the addresses that are neither on the old nor on the new way, with what is wrong.

        An address that has no way before or after may have none, and an instance the way of those without floating IP.
        """
        for vm, seen in self.out.items():
            ends = (old.out[vm], new.out[vm])
            is_plain = seen in GATEWAYS and (None in ends or not GATEWAYS.isdisjoint(ends))  # its address may change
            if seen not in ends and not is_plain and not (None in ends and seen is None):
                yield vm, f"{vm} is seen as {seen}, not as {' or '.join(map(str, ends))}"
        for address, answer in self.into.items():
            answers = (old.into[address], new.into[address])
            if answer not in answers and not (None in answers and answer is None):
                yield address, f"{address} is answered by {answer}, not by {' or '.join(map(str, answers))}"


class Site(ExitStack):
    """The calling thread's network namespace as a host, with a router in use beside the one to come.

    :ivar gate: every write of the reconciler passes by it
    :ivar reconciler: knows only what kernel and state files tell
    :ivar lost: pings without an answer, and ``sent``: of all, of addresses that no job concerns
    :ivar losses: a line for each address that lost some
    """

    def __init__(self, base: Path) -> None:
        super().__init__()
        self._base, self.gate = base, Gate()
        self.lost = self.sent = 0
        self.losses = list[str]()
        self._same_targets = set[str]()

    def __enter__(self) -> Self:
        lab.run("ip", "link", "set", "lo", "up")
        self.world = World(lab.Host(), self._base / "unused")
        self.enter_context(self.gate.installed())
        self.restart()
        cloud = self.world.cloud
        behind = [cloud.vm(name, RED, f"10.1.0.{11 + at}") for at, name in enumerate(VMS)]
        beside = [cloud.vm("green", GREEN, "10.3.0.11"), cloud.vm("grey", GREEN, "10.3.0.12")]
        other = cloud.router("beside", GREEN).gateway(PUBLIC, BESIDE).floating_ip(BESIDE_FIP, beside[0])
        self.make(parse_document(other.raw(), "beside"))
        self.world.boot(*behind, *beside)
        # Else the fip namespace answers ARP only after up to 0.8 s, in which packets wait.
        (device,) = (one["ifname"] for one in lab.ip_json("link", netns=FIP) if one["ifname"].startswith("fg-"))
        lab.in_netns(FIP, "sysctl", "-qw", f"net.ipv4.neigh.{device}.proxy_delay=0")
        self.enter_context(Mirror("internet"))
        for name in VMS:
            self.enter_context(Echo(name, PORT))
        for source, target in (("green", INTERNET), ("grey", INTERNET), ("internet", BESIDE_FIP)):
            assert lab.ping(source, target), f"{source} reaches {target}"
            self._pings(self, source, target)
        return self

    def restart(self) -> None:
        """Forget what the reconciler knows, as a process that is killed does."""
        settings = HostSettings(host=NODE, mode=AgentMode.DVR_SNAT)
        self.gate.open()
        self.reconciler: RouterReconciler = open_gated(self.gate, settings, {PUBLIC.id: "br-ex"}, self._base / "state")

    def routers(self, scenario: Scenario) -> tuple[Router | None, Router | None]:
        """Return the router before and after a change."""
        router = self.world.cloud.router("main", RED).gateway(PUBLIC, GATEWAY)
        scenario.before(router, self)
        before = parse_document(router.raw(), "before") if scenario.begins else None
        scenario.after(router, self)
        return before, parse_document(router.raw(), "after") if scenario.ends else None

    def make(self, router: Router | None) -> None:
        """Have the job of a document done; None: the router's removal."""
        if router is None:
            self.reconciler.remove(self.world.cloud.router("main", RED).id)
        else:
            self.reconciler.reconcile(router)

    def ways(self, old: Ways, new: Ways) -> Ways:
        """Open new connections through every address.

        Of what has a way before and after the change there must be an answer, and of what has one in neither nothing
        is asked.
        """
        for address in {*FIPS, GATEWAY, OTHER_GATEWAY} - self._same_targets:  # caches of peers settle by themselves
            lab.run("ip", "-n", "internet", "neigh", "flush", "dev", "eth0", "to", address)
        found, sides = Ways(), old.changing_sides(new)
        for vm in VMS:
            ends = old.out[vm], new.out[vm]
            found.out[vm] = _seen_as(vm, LONG if all(ends) and vm not in sides else BRIEF) if any(ends) else None
        for address in FIPS:
            ends = old.into[address], new.into[address]
            patience = LONG if all(ends) and address not in sides else BRIEF
            found.into[address] = _who(address, patience) if any(ends) else None
        return found

    def made(self, router: Router | None) -> Ways:
        """Have the job of a document done without interference; returns the ways that there must be then."""
        self.gate.open()
        self.make(router)
        writes = list(self.gate.seen)
        wanted = self._wanted(router)
        found = self.ways(wanted, wanted)
        assert found == wanted, f"{found}, not {wanted}"
        self.gate.seen[:] = writes
        return wanted

    def ends(self, before: Router | None, after: Router | None) -> tuple[Ways, Ways, int]:
        """Return the ways before and after a change, and the number of its writes; what was before is in force."""
        old, new = self.made(before), self.made(after)
        writes = len(self.gate.seen)
        self.made(before)
        return old, new, writes

    def _wanted(self, router: Router | None) -> Ways:
        """Return the ways of a document."""
        if router is None or router.gateway is None:
            return Ways(dict.fromkeys(VMS), dict.fromkeys(FIPS))
        seen = str(router.gateway.fixed_ips[0].address)
        ways = Ways(dict.fromkeys(VMS, seen), dict.fromkeys(FIPS))
        for name in VMS:
            fixed = self.world.cloud.vms[name].address
            for fip in router.floating_ips:
                if str(fip.fixed_address) == fixed:
                    ways.out[name], ways.into[str(fip.address)] = str(fip.address), name
                    ways.central |= {name, str(fip.address)} if fip.snat_bound else set()
        return ways

    @contextlib.contextmanager
    def undisturbed(self, before: Router | None, after: Router | None) -> Iterator[None]:
        """Inside the block pings run through all addresses of which both documents say the same."""
        with ExitStack() as stack:
            same = [] if before is None or after is None else list(self._same(before, after))
            self._same_targets = {target for _, target in same}
            if before is not None and after is not None and before.gateway == after.gateway:
                self._same_targets.add(GATEWAY)
            for source, target in same:
                assert lab.ping(source, target), f"{source} reaches {target}"
                self._pings(stack, source, target)
            yield
            self._same_targets = set()

    def _same(self, before: Router, after: Router) -> Iterator[tuple[str, str]]:
        """Yield (source, target) of each way that does not change."""
        for name in VMS:
            fixed = self.world.cloud.vms[name].address
            was, will = (
                [fip for fip in one.floating_ips if str(fip.fixed_address) == fixed] for one in (before, after)
            )
            if was == will and (was or before.gateway == after.gateway):
                yield name, INTERNET
                yield from (("internet", str(fip.address)) for fip in was)

    def _pings(self, stack: ExitStack, source: str, target: str) -> None:
        pinger = Pinger(source, target)
        stack.callback(self._count, pinger, f"{source} → {target}")
        stack.enter_context(pinger)

    def _count(self, pinger: Pinger, name: str) -> None:
        self.lost, self.sent = self.lost + len(pinger.lost), self.sent + pinger.sent
        if pinger.lost:
            self.losses.append(f"{name}: {len(pinger.lost)} of {pinger.sent} lost, the first was {pinger.lost[0]}")


def _seen_as(vm: str, seconds: float) -> str | None:
    stream = Stream(vm, INTERNET)
    try:
        return stream.seen_as(seconds)
    finally:
        stream.close()


def _who(address: str, seconds: float) -> str | None:
    try:
        flow = Flow("internet", address, PORT, seconds)
    except OSError:
        return None
    try:
        return flow.ask(seconds)
    finally:
        flow.close()
