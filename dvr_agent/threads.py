"""Native threads that leave signals to the main thread and do not keep the process alive."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable

from oslo_log import log as logging

LOG = logging.getLogger(__name__)


def make_thread(name: str, target: Callable[[], None]) -> threading.Thread:
    """A thread, not started yet.  An error that nobody expected ends it and is logged."""

    def main() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - {signal.SIGSEGV, signal.SIGBUS})
        try:
            target()
        except Exception:
            LOG.exception("thread %s ended by an error that should not happen", name)

    return threading.Thread(target=main, name=name, daemon=True)
