"""Makes native threads that leave signals to the main thread and do not keep the process alive."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable

from oslo_log import log as logging

LOG = logging.getLogger(__name__)


def make_thread(name: str, target: Callable[..., None], *args: object) -> threading.Thread:
    """Make a thread that is not started yet; an exception that escapes ``target`` is logged and ends the thread."""

    def main() -> None:
        # Signals belong to the main thread: here they would only interrupt system calls.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - {signal.SIGSEGV, signal.SIGBUS})
        try:
            target(*args)
        except Exception:
            LOG.exception("thread %s ended by an unexpected exception: this is a bug", name)

    return threading.Thread(target=main, name=name, daemon=True)


def start_thread(name: str, target: Callable[..., None], *args: object) -> threading.Thread:
    """Make a thread and start it."""
    thread = make_thread(name, target, *args)
    thread.start()
    return thread
