"""Close sockets in a thread that may wait: :func:`close_aside`.

The kernel waits for an RCU grace period, 10 to 14 ms, before it closes a netlink socket of nf_tables in whose namespace
something was deleted shortly before (``nft_rcv_nl_event`` in net/netfilter/nf_tables_api.c).  Used by ``nftables``;
``packet_sockets`` closes more sockets than one thread could.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from typing import Protocol


class Closable(Protocol):
    """Something that is closed once."""

    def close(self) -> None:
        """Close it."""


CLOSING = "close netfilter sockets"
"""Name of the thread."""
WAITING_MAX = 64
"""More than these are closed by the caller: they hold descriptors and namespaces."""
_waiting: queue.SimpleQueue[Closable] = queue.SimpleQueue()
_starting = threading.Lock()
_thread: threading.Thread | None = None


def close_aside(one: Closable) -> None:
    """Have something closed soon; now, if no thread can be started or too many wait."""
    if _waiting.qsize() >= WAITING_MAX or not _runs():
        one.close()
        return
    _waiting.put(one)


def _runs() -> bool:
    """Return True if the thread runs, which is started once; not again in a child process, which has none."""
    global _thread
    if _thread is not None and _thread.is_alive():
        return True
    with _starting:
        if _thread is None or not _thread.is_alive():
            started = threading.Thread(target=_close_all, name=CLOSING, daemon=True)
            try:
                started.start()
            except RuntimeError:
                return False
            _thread = started
    return True


def _close_all() -> None:
    while True:
        with contextlib.suppress(OSError):
            _waiting.get().close()
