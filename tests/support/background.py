"""A thread that works beside a test for as long as a ``with`` block lasts."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from typing import Self


class Background(ABC):
    """Runs :meth:`work` in a thread of its own; the end of the block sets :attr:`stop` and waits for it.

    :ivar stop: set when the work has to end
    """

    def __init__(self) -> None:
        self.stop = threading.Event()
        self._thread = threading.Thread(target=self.work, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self._thread.join()
        self.close()

    def is_alive(self) -> bool:
        """True while the thread works."""
        return self._thread.is_alive()

    @abstractmethod
    def work(self) -> None:
        """Work until :attr:`stop` is set."""

    def close(self) -> None:  # noqa: B027 - not all have something to let go of
        """Let go of sockets and the like, once the work has ended."""
