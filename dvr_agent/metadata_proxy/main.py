"""``dvr-metadata-proxy``: the command line, and the life of the process.

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

from dvr_agent import logs
from dvr_agent.errors import DvrError, exit_code
from dvr_agent.metadata.settings import ProxySettings
from dvr_agent.metadata_proxy import options
from dvr_agent.metadata_proxy.control_server import ControlServer
from dvr_agent.metadata_proxy.control_socket import open_control_socket, remove_control_socket
from dvr_agent.metadata_proxy.fd_budget import FdBudget, raise_limit
from dvr_agent.metadata_proxy.proxy_state import ProxyState
from dvr_agent.metadata_proxy.served_routers import ServedRouters
from dvr_agent.notify import Notifier

LOG = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the proxy with these arguments (default: those of the process); returns the exit code."""
    logs.survive_signals()
    try:
        conf, settings = options.load(sys.argv[1:] if argv is None else argv)
        logs.setup(conf, options.PROG)
    except DvrError as exc:
        logs.complain(options.PROG, str(exc))
        return exit_code(exc)
    path = conf.metadata_proxy.control_socket
    try:
        control_socket = open_control_socket(path)
    except DvrError as exc:
        reason, code = str(exc), exit_code(exc)
    else:
        asyncio.run(_run(settings, path, control_socket))
        return 0
    # Not in the except block: oslo.log would append the exception, and every line would say it twice.
    LOG.error("%s", reason)
    if not logs.to_terminal() and not conf.use_json:
        logs.complain(options.PROG, reason)
    return code


async def _run(settings: ProxySettings, path: str, control_socket: socket.socket) -> None:
    """Serve until a signal says that it is enough."""
    loop, notifier = asyncio.get_running_loop(), Notifier()
    enough = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, enough.set)
    for number in logs.HARMLESS:
        loop.add_signal_handler(number, lambda: None)
    faulthandler.register(signal.SIGUSR2, all_threads=True)
    state = ProxyState(settings, FdBudget(raise_limit()))
    loop.set_exception_handler(lambda _loop, context: _bug(state, context))
    routers = ServedRouters(state)
    control = ControlServer(control_socket, routers, state, enough.set)
    notifier.ready("serving metadata")
    LOG.info("serving metadata: control socket %s, upstream %s", path, settings.upstream)
    watchdog = asyncio.create_task(_tell_watchdog(notifier))
    await enough.wait()
    notifier.stopping()
    LOG.info("stopping: %d routers, %d connections", len(routers), routers.connections())
    await routers.end()
    watchdog.cancel()
    control.close()
    remove_control_socket(path, control_socket)


async def _tell_watchdog(notifier: Notifier) -> None:
    while notifier.watchdog_seconds is not None:
        notifier.alive()
        await asyncio.sleep(notifier.watchdog_seconds / 3)


def _bug(state: ProxyState, context: dict[str, Any]) -> None:
    """What no one caught.  The text of an exception may quote an instance, its type does not."""
    exc = context.get("exception")
    state.log.warn("bug", "%s: %s", context.get("message", "error"), type(exc).__name__ if exc else "?")
    if exc is not None:
        LOG.debug("this is a bug", exc_info=exc)


if __name__ == "__main__":
    sys.exit(main())
