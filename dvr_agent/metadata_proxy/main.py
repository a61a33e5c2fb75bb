"""``dvr-metadata-proxy``: the command line, the objects of the process, its start and its end.

Exit codes: 0 stopped by a signal, 1 cannot run now (the reason is one line), 2 wrong arguments, 78 (EX_CONFIG) the
configuration file cannot be used.
"""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import signal
import socket
import sys
from collections.abc import Sequence
from typing import Any

from dvr_agent import first_signals, logs
from dvr_agent.control.fd_store import FdStore
from dvr_agent.control.unix_socket import open_control_socket, remove_control_socket
from dvr_agent.errors import DvrError, exit_code
from dvr_agent.metadata import control_protocol
from dvr_agent.metadata.settings import ProxySettings
from dvr_agent.metadata_proxy import options
from dvr_agent.metadata_proxy.control_server import ControlServer
from dvr_agent.metadata_proxy.fd_budget import FdBudget, raise_limit
from dvr_agent.metadata_proxy.proxy_state import ProxyState
from dvr_agent.metadata_proxy.served_routers import ServedRouters
from dvr_agent.notify import Notifier
from dvr_agent.plural import count

LOG = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the proxy with these arguments (default: those of the process); returns the exit code."""
    first_signals.survive()
    try:
        conf, settings = options.load(sys.argv[1:] if argv is None else argv)
        logs.setup(conf, options.PROG)
    except DvrError as exc:
        logs.complain(options.PROG, str(exc))
        return exit_code(exc)
    path = conf.metadata_proxy.control_socket
    try:
        control_socket = open_control_socket(path, options.PROG, "metadata_proxy")
    except DvrError as exc:
        reason, code = str(exc), exit_code(exc)
    else:
        asyncio.run(_run(settings, path, control_socket))
        return 0
    # Not in the except block: oslo.log would append the exception, which the line contains already.
    LOG.error("%s", reason)
    if not logs.to_terminal() and not conf.use_json:
        logs.complain(options.PROG, reason)
    return code


async def _run(settings: ProxySettings, path: str, control_socket: socket.socket) -> None:
    """Serve until a signal, or the agent, asks the process to end."""
    loop, notifier = asyncio.get_running_loop(), Notifier()
    end = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end.set)
    for number in first_signals.HARMLESS:
        loop.add_signal_handler(number, lambda: None)
    faulthandler.register(signal.SIGUSR2, all_threads=True)
    state = ProxyState(settings, FdBudget(raise_limit()))
    loop.set_exception_handler(lambda _loop, context: _log_bug(state, context))
    routers = ServedRouters(state)
    store = FdStore(notifier, control_protocol.VERSION)
    control = ControlServer(control_socket, routers, state, store, end.set)
    await control.restore()
    notifier.ready("serving metadata")
    LOG.info("serving metadata: control socket %s, upstream %s", path, settings.upstream)
    notifying = asyncio.create_task(_notify(notifier, store))
    await end.wait()
    notifier.stopping()
    LOG.info("stopping: %s, %s", count(len(routers), "router"), count(routers.connections(), "connection"))
    await routers.end()
    notifying.cancel()
    control.close()
    remove_control_socket(path, control_socket)


async def _notify(notifier: Notifier, store: FdStore) -> None:
    """Send signs of life to the watchdog, and what systemd was too busy to store."""
    while notifier.is_managed:
        store.flush()
        if notifier.watchdog_seconds is not None:
            notifier.alive()
        await asyncio.sleep(min(1.0, (notifier.watchdog_seconds or 3.0) / 3))


def _log_bug(state: ProxyState, context: dict[str, Any]) -> None:
    """Log an exception that no code caught: only its type, since its text may quote an instance."""
    exc = context.get("exception")
    state.log.warn("bug", "%s: %s", context.get("message", "error"), type(exc).__name__ if exc else "?")
    if exc is not None:
        LOG.debug("this is a bug", exc_info=exc)


if __name__ == "__main__":
    sys.exit(main())
