"""Traffic that must not notice anything: 50 pings a second and a TCP connection, by a floating IP and by SNAT.

The probes themselves are those of the packet tests; here they are put together.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from typing import Self

from tests.support.background import Background
from tests.support.cloud.site import Instance, Site
from tests.support.lab import entered
from tests.support.probes import Conversation, Echo, Pinger
from tests.support.waiting import wait_for

PATIENCE = 30.0
"""Seconds without an answer that break a TCP connection; TCP itself repeats what was lost long before."""


class Traffic:
    """All four at once; ``check`` after the block says whether anybody noticed anything.

    :param inward: an instance and the floating IP by which the outside world reaches it
    :param outward: an instance without a floating IP
    :param ports: of the two servers, where others listen too
    """

    def __init__(
        self,
        site: Site,
        inward: Instance,
        address: str,
        outward: Instance,
        ports: tuple[int, int] = (7001, 7002),
    ) -> None:
        outside = site.outside_netns
        self._stack = contextlib.ExitStack()
        # The listeners are up before anybody calls, and go last.
        self._stack.enter_context(Echo(inward.netns, ports[0]))
        self._stack.enter_context(Echo(outside, ports[1]))
        self.pings = {
            "through the floating IP": Pinger(outside, address),
            "by SNAT": Pinger(outward.netns, site.outside),
        }
        self.streams = {
            "through the floating IP": Conversation(outside, address, ports[0], PATIENCE),
            "by SNAT": Conversation(outward.netns, site.outside, ports[1], PATIENCE),
        }

    def __enter__(self) -> Self:
        for ping in self.pings.values():
            self._stack.enter_context(ping)
        for stream in self.streams.values():
            self._stack.enter_context(stream)
        self.go_on()
        return self

    def __exit__(self, *_: object) -> None:
        self.go_on()
        self._stack.close()

    def go_on(self) -> None:
        """Return when every stream had some more answers and every ping some more turns: they are under way."""
        goals = {name: stream.answers + 3 for name, stream in self.streams.items()}
        for ping in self.pings.values():
            ping.run_for(10)
        wait_for(lambda: all(self.streams[name].answers >= goals[name] for name in goals), "the streams go on")

    def check(self) -> None:
        """Nothing was lost, nothing was reset."""
        for name, ping in self.pings.items():
            assert not ping.lost, f"{len(ping.lost)} of {ping.sent} pings {name} lost: {ping.lost[:50]}"
        for name, stream in self.streams.items():
            assert not stream.broken, f"the TCP connection {name} broke after {stream.answers} answers"


class Asker(Background):
    """An instance that asks for its id on the metadata address, a new connection each time, until the block ends.

    :ivar answers: what it was told: the id, or what went wrong
    """

    def __init__(self, instance: Instance) -> None:
        super().__init__()
        self._instance = instance
        self.answers: list[str] = []

    def __enter__(self) -> Self:
        super().__enter__()
        self.go_on()
        return self

    def go_on(self) -> None:
        """Return when it was answered some more times."""
        goal = len(self.answers) + 5
        wait_for(lambda: len(self.answers) >= goal, "metadata is asked for")

    def work(self) -> None:
        while not self.stop.wait(0.05):
            self.answers.append(ask_metadata(self._instance.netns))


def ask_metadata(netns: str, address: str = "169.254.169.254", port: int = 80, **headers: str) -> str:
    """The instance's id, as the metadata address tells it; or what went wrong."""
    try:
        with entered(netns):
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            target = socket.getaddrinfo(address, port, family, socket.SOCK_STREAM)[0][4]
            connection = socket.socket(family, socket.SOCK_STREAM)
        with connection:
            connection.settimeout(PATIENCE)
            connection.connect(target)
            request = http.client.HTTPConnection("metadata")
            request.sock = connection
            request.request("GET", "/latest/meta-data/instance-id", headers=headers)
            answer = request.getresponse()
            said = answer.read()
        return str(json.loads(said)["instance"]) if answer.status == 200 else f"{answer.status} {answer.reason}"
    except OSError as exc:
        return f"{type(exc).__name__}: {exc}"
