"""One virtual router with its sockets: carries out what the state machine asks for."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import time
from collections.abc import Callable, Iterable, Sequence

from dvr_agent.plural import count
from dvr_agent.vrrp.addresses import Requests, link_state, messages_in
from dvr_agent.vrrp.advert import GROUP, LOWEST, Advert, decode, encode
from dvr_agent.vrrp.echo import EchoSockets
from dvr_agent.vrrp.health import GatewayCheck, Step
from dvr_agent.vrrp.instance import Action, Instance, State
from dvr_agent.vrrp.protocol import Descriptors, VirtualRouter

LOG = logging.getLogger(__name__)

REPEAT = 5
"""Announcements of each address, one right after the other, as keepalived sends them (vrrp_garp_master_repeat)."""
PACKET = 2048
BATCH = 64
"""Packets that are read in one turn of the loop."""
EVENTS = 64 * 1024


class Sockets:
    """The sockets of a virtual router: ours, copied from the agent's.

    :param echo: descriptors of the raw sockets for its gateways
    """

    def __init__(self, descriptors: Descriptors, echo: Sequence[int]) -> None:
        self.vrrp, self.requests, self.events, self.frames = made = _copied(descriptors[:4])
        try:
            self.echo = EchoSockets(_copied(echo))
        except OSError:
            _close(made)
            raise

    def replace_echo(self, echo: Sequence[int]) -> None:
        """Take other sockets for the gateways.

        :raises OSError: they are none; the earlier ones stay
        """
        new = EchoSockets(_copied(echo))
        self.echo.close()
        self.echo = new

    def close(self) -> None:
        """Close all of them; the kernel takes some milliseconds for a packet socket."""
        _close((self.vrrp, self.requests, self.events, self.frames))
        self.echo.close()


def _copied(descriptors: Sequence[int]) -> list[socket.socket]:
    made: list[socket.socket] = []
    try:
        for descriptor in descriptors:
            one = socket.socket(fileno=os.dup(descriptor))
            made.append(one)
            one.setblocking(False)
    except OSError:
        _close(made)
        raise
    return made


def _close(sockets: Iterable[socket.socket]) -> None:
    for one in sockets:
        one.close()


class Speaker:
    """Speaks for one virtual router.

    :param digest: of the description
    :ivar late: the largest delay of an advertisement, in seconds
    """

    def __init__(self, router_id: str, namespace: int, router: VirtualRouter, digest: str, sockets: Sockets) -> None:
        self.router_id, self.namespace, self.digest = router_id, namespace, digest
        self.late = 0.0
        self.sockets = sockets
        self._router = router
        self._speech = router.speech
        self._requests = Requests(sockets.requests)
        self._advert, self._last, self._prompt = (
            encode(self._speech, priority) for priority in (router.priority, 0, LOWEST)
        )
        source = int.from_bytes(socket.inet_aton(router.source), "big")
        self._instance = Instance(router.interval, router.priority, source)
        self._check = GatewayCheck(router.check_interval)
        self._silent = ""
        self._complaint = ""
        self._do: dict[Action, Callable[[], None]] = {
            Action.SEND: lambda: self._send(self._advert),
            Action.YIELD: lambda: self._send(self._last),
            Action.PROMPT: lambda: self._send(self._prompt),
            Action.TAKE: self._take,
            Action.RELEASE: self._release,
            Action.ANNOUNCE: self._announce,
        }

    @property
    def state(self) -> State:
        """State of the virtual router on this host."""
        return self._instance.state

    @property
    def deadline(self) -> float | None:
        """Time of the monotonic clock at which :meth:`expire` has to be called."""
        own, check = self._instance.deadline, self._check.deadline
        if own is None or check is None:
            return own if check is None else check
        return min(own, check)

    def start(self, now: float) -> None:
        """Begin: as master where the addresses are there already.

        :raises OSError: the namespace cannot be read
        """
        interface = self._router.interface
        if self._requests.is_up(interface):
            self._carry_out(self._instance.start(now, self._requests.has_address(interface, self._speech.address)))

    def can_become(self, namespace: int, router: VirtualRouter) -> bool:
        """Return True if this speaker can go on with another description."""
        return namespace == self.namespace and router.agreement == self._router.agreement

    def change(self, router: VirtualRouter, digest: str, echo: Sequence[int]) -> None:
        """Go on with other addresses and routes; a master's are changed at once.

        :param echo: descriptors of the raw sockets for the gateways
        :raises OSError: they are none; nothing is changed
        """
        if router.check != self._router.check:
            self.sockets.replace_echo(echo)
            self._begin_check(router)
        old, self._router, self.digest = self._router, router, digest
        if self.state is not State.MASTER:
            return
        stale = [one for one in (*old.routes, *reversed(old.addresses)) if one not in _all(router)]
        new = [one for one in (*router.addresses, *router.routes) if one not in _all(old)]
        self._complain(self._requests.remove(stale) + self._requests.add(new))
        frames = set(old.frames)
        self._announce([one for one in router.frames if one not in frames])

    def expire(self, now: float) -> None:
        """Handle the deadline."""
        deadline = self._instance.deadline
        if deadline is not None and self.state is State.MASTER:
            self.late = max(self.late, now - deadline)
        self._carry_out(self._instance.expire(now))
        if self._check.deadline is not None and now >= self._check.deadline:
            self._check_gateways(now)

    def read_adverts(self) -> None:
        """Handle packets that have arrived."""
        with contextlib.suppress(BlockingIOError, InterruptedError):
            for _ in range(BATCH):
                found = decode(self.sockets.vrrp.recv(PACKET), self._speech)
                if isinstance(found, Advert):
                    self._carry_out(self._instance.receive(time.monotonic(), found))
                elif found is not None:
                    self._note(f"an advertisement is ignored: {found}")

    def read_events(self) -> None:
        """Handle changes of links in the namespace."""
        try:
            while True:
                for kind, _, body in messages_in(self.sockets.events.recv(EVENTS)):
                    self._follow(link_state(kind, body, self._router.interface))
        except (BlockingIOError, InterruptedError):
            return
        except OSError:  # events were lost (ENOBUFS)
            with contextlib.suppress(OSError):
                self._follow(self._requests.is_up(self._router.interface))

    def end(self, now: float) -> None:
        """Yield, and remove the addresses."""
        self._carry_out(self._instance.end(now))

    def _begin_check(self, router: VirtualRouter) -> None:
        """Begin to check other gateways: the last results say nothing about them."""
        now = time.monotonic()
        self._check, self._silent = GatewayCheck(router.check_interval), ""
        self._carry_out(self._instance.regain_gateway(now))
        if router.gateways and self.state is State.MASTER:
            self._check.begin(now)

    def _check_gateways(self, now: float) -> None:
        gateways, echo = self._router.gateways, self.sockets.echo
        if self._check.step is Step.RETURN:
            self._check.returned()
            self._carry_out(self._instance.regain_gateway(now))
            LOG.info("router %s: %s again", self.router_id, self.state.value)
        elif self._check.step is Step.ASK:
            echo.silent(())  # what came too late
            echo.ask(gateways)
            self._check.asked(now)
        else:
            silent = ", ".join(one.address for one in echo.silent(gateways))
            if self._check.judge(now, not silent):
                LOG.warning("router %s: no answer from gateway %s: this host yields", self.router_id, silent)
                self._silent = silent
                self._carry_out(self._instance.lose_gateway(now))
            elif not silent and self._silent:
                LOG.info("router %s: gateway %s answers again", self.router_id, self._silent)
                self._silent = ""

    def _follow(self, is_up: bool | None) -> None:
        now = time.monotonic()
        if is_up is False:
            self._carry_out(self._instance.lose_interface(now))
        elif is_up is True:
            self._carry_out(self._instance.regain_interface(now))

    def _carry_out(self, actions: Sequence[Action]) -> None:
        for action in actions:
            self._do[action]()
        if self.state is not State.MASTER:
            self._check.end()
        elif Action.TAKE in actions and self._router.gateways:
            self._check.begin(time.monotonic())
        if Action.TAKE in actions:
            LOG.info("router %s: master", self.router_id)
        elif Action.RELEASE in actions:
            LOG.info("router %s: %s", self.router_id, self.state.value)

    def _send(self, packet: bytes) -> None:
        try:
            self.sockets.vrrp.sendto(packet, (GROUP, 0))
        except OSError as exc:
            self._note(f"an advertisement cannot be sent: {exc.strerror}")

    def _take(self) -> None:
        router = self._router
        # The primary address comes after all others: it is the sign by which the agent sees the state.
        self._complain(self._requests.add((*router.addresses, router.primary, *router.routes)))

    def _release(self) -> None:
        router = self._router
        self._complain(self._requests.remove((router.primary, *router.routes, *reversed(router.addresses))))

    def _announce(self, frames: Sequence[tuple[str, int, bytes]] | None = None) -> None:
        for device, protocol, data in self._router.frames if frames is None else frames:
            try:
                for _ in range(REPEAT):
                    self.sockets.frames.sendto(data, (device, protocol))
            except OSError as exc:
                self._note(f"an address cannot be announced on {device}: {exc.strerror}")

    def _complain(self, refused: Sequence[OSError]) -> None:
        if refused:
            number = count(len(refused), "address or route", "addresses or routes")
            self._note(f"{number} refused, the first one: {refused[0]}")

    def _note(self, text: str) -> None:
        """Log a fault once, however often it comes again."""
        if text != self._complaint:
            self._complaint = text
            LOG.warning("router %s: %s", self.router_id, text)


def _all(router: VirtualRouter) -> frozenset[bytes]:
    return frozenset((*router.addresses, *router.routes))
