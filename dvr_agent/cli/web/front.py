"""Starts the process that talks to browsers (:mod:`dvr_agent.web.front`), and gives it token and listening socket."""

from __future__ import annotations

import socket
import subprocess

from dvr_agent.cli.web import python
from dvr_agent.errors import DvrError
from dvr_agent.web.wire import Channel

END_SECONDS = 5.0


class FrontError(DvrError):
    """The front does not start."""


class Front:
    """The running front.

    :param listener: the front's from now on
    :raises FrontError: it ended at once
    """

    def __init__(self, listener: socket.socket, token: str) -> None:
        ours, theirs = socket.socketpair()
        passed = (theirs.fileno(), listener.fileno())
        # The environment may have secrets: the front gets none of it.
        self._process = subprocess.Popen(
            python.command("dvr_agent.web.front", *map(str, passed)), pass_fds=passed, env=python.ENVIRONMENT,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        theirs.close()
        listener.close()
        self.channel = Channel(ours.detach())
        try:
            self.channel.send({"token": token})
            ready = self.channel.receive()
        except OSError:
            ready = None
        if ready is None:
            self.end()
            raise FrontError("the process that serves the page ended at once")

    def end(self) -> int:
        """End the process; returns its exit code."""
        self._process.terminate()
        try:
            return self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()
