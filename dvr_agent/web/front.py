"""The process that talks to browsers: ``python -m dvr_agent.web.front <channel> <listener>``, two descriptors.

Started by ``dvrctl web``.  Reads its files, drops its rights, then serves until ``dvrctl web`` ends.
"""

from __future__ import annotations

import encodings.idna  # noqa: F401 - waitress looks it up later, when this process may be unable to read it
import logging
import os
import signal
import socket
import sys
import threading
from typing import Any

from waitress.server import create_server

from dvr_agent.web.application import Application
from dvr_agent.web.live import SUBSCRIBERS, Live
from dvr_agent.web.questions import Questions
from dvr_agent.web.rights import drop_rights
from dvr_agent.web.slow_clients import close_slow_clients
from dvr_agent.web.static import read_files
from dvr_agent.web.wire import Channel

LOG = logging.getLogger(__name__)

THREADS = SUBSCRIBERS + 6
"""Each open page keeps one for its events; the others answer questions."""
CONNECTIONS = 64
IDLE_SECONDS = 20
CHECK_SECONDS = 5
MAX_HEADER, MAX_BODY = 8192, 1024


def main() -> None:
    """Serve the page; ends with the channel."""
    channel = Channel(int(sys.argv[1]))
    listener = socket.socket(fileno=int(sys.argv[2]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal: dvrctl web ends, and this process with it
    logging.basicConfig(level=logging.WARNING, format="dvrctl web: %(message)s", stream=sys.stderr)
    first = channel.receive()
    if first is None:
        return
    files = read_files()
    drop_rights()
    questions = Questions(channel, ended=lambda: os._exit(0))
    live = Live(questions.ask)
    server = _make_server(Application(first["token"], files, questions.ask, live), listener)
    for name, follow in (("live", live.run), ("index", live.run_index)):
        threading.Thread(target=follow, name=name, daemon=True).start()
    channel.send({"ready": True})
    server.run()


def _make_server(application: Application, listener: socket.socket) -> Any:
    for name in ("waitress", "waitress.queue"):
        logging.getLogger(name).setLevel(logging.ERROR)  # that clients went away, that a thread was not free at once
    server = create_server(
        application,
        sockets=[listener],
        threads=THREADS,
        ident=None,
        connection_limit=CONNECTIONS,
        channel_timeout=IDLE_SECONDS,
        cleanup_interval=CHECK_SECONDS,
        channel_request_lookahead=1,  # so that a page that was closed is noticed
        max_request_header_size=MAX_HEADER,
        max_request_body_size=MAX_BODY,
        asyncore_use_poll=True,
        log_socket_errors=False,
    )
    close_slow_clients(server)
    return server


if __name__ == "__main__":
    main()
