"""``dvr-vrrp``: the command line, the objects of the process, its start and its end.

A signal to end (SIGTERM) leaves addresses and routes as they are and says nothing to other hosts: the process is
restarted, by an upgrade for instance, and goes on as master where it finds the addresses.  systemd keeps what the agent
has handed over meanwhile, as after a crash.  With ``--yield-at-end`` it yields all virtual routers instead.

Exit codes: 0 stopped by a signal, 1 cannot run now (the reason is one line), 2 wrong arguments.
"""

from __future__ import annotations

import argparse
import logging
import signal
import socket
import sys
import time
from collections.abc import Sequence

from dvr_agent import __version__
from dvr_agent.control.fd_store import FdStore
from dvr_agent.control.unix_socket import open_control_socket, remove_control_socket
from dvr_agent.errors import DvrError, exit_code
from dvr_agent.notify import Notifier
from dvr_agent.plural import count
from dvr_agent.vrrp import log, realtime
from dvr_agent.vrrp.control import ControlServer
from dvr_agent.vrrp.loop import Loop
from dvr_agent.vrrp.protocol import VERSION

LOG = logging.getLogger(__name__)

PROG = "dvr-vrrp"
CONTROL_SOCKET = "/run/dvr-vrrp/control.sock"


class Ending:
    """Notes that a signal asks the process to end."""

    def __init__(self) -> None:
        self.asked = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask)

    def _ask(self, _number: int, _frame: object) -> None:
        self.asked = True


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of the command line."""
    parser = argparse.ArgumentParser(PROG, description="Speaks VRRP for the HA routers of dvr-agent.")
    parser.add_argument("--control-socket", default=CONTROL_SOCKET, metavar="PATH", help="default: %(default)s")
    parser.add_argument("--yield-at-end", action="store_true", help="let other hosts be master when this process ends")
    parser.add_argument("--version", action="version", version=__version__)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Speak VRRP until a signal asks the process to end; returns the exit code."""
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):  # none of them may end it
        signal.signal(number, signal.SIG_IGN)
    wanted = make_parser().parse_args(sys.argv[1:] if argv is None else argv)
    log.set_up()
    try:
        listener = open_control_socket(wanted.control_socket, PROG, "vrrp")
    except DvrError as exc:
        code, reason = exit_code(exc), str(exc)
    else:
        _run(listener, wanted.control_socket, wanted.yield_at_end)
        return 0
    LOG.error("%s", reason)
    return code


def _run(listener: socket.socket, path: str, yields: bool) -> None:
    ending, notifier, loop = Ending(), Notifier(), Loop()
    store = FdStore(notifier, VERSION)
    control = ControlServer(listener, loop, store)
    realtime.begin()
    control.restore()
    notifier.ready("speaking VRRP")
    LOG.info("speaking VRRP: control socket %s", path)
    alive_at = 0.0
    while not ending.asked:
        loop.turn()
        store.flush()
        now = time.monotonic()
        if notifier.watchdog_seconds is not None and now >= alive_at:
            alive_at = now + notifier.watchdog_seconds / 3
            notifier.alive()
    notifier.stopping()
    LOG.info("stopping: %s", count(len(loop), "virtual router"))
    if yields:
        control.end()
    control.close()
    loop.close()
    remove_control_socket(path, listener)


if __name__ == "__main__":
    sys.exit(main())
