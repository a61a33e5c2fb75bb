"""The host's end of the virtio port: commands to ``guest.py``, answers back, several at a time."""

from __future__ import annotations

import contextlib
import itertools
import json
import queue
import socket
import threading
import time
from pathlib import Path
from typing import Any

from tests.support.computer import Done


class LostError(Exception):
    """The machine is gone, or does not answer."""


class Channel:
    """One connection to the virtio port of a qemu."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._waiting: dict[object, queue.SimpleQueue[dict[str, Any] | None]] = {}
        threading.Thread(target=self._read, daemon=True).start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def run(self, words: tuple[str, ...], text: str, timeout: float) -> Done:
        """
        :raises LostError: no answer came, although the guest itself ends what takes longer than ``timeout``
        """
        number = next(self._numbers)
        request = {"id": number, "words": words, "timeout": timeout, "input": text}
        answer = self._ask(number, request, timeout + 120)
        return Done(words, answer["code"], answer["out"], answer["err"])

    def hello(self, timeout: float) -> None:
        """Wait until the guest answers; what it said before is not for us any more.

        :raises LostError: it does not
        """
        deadline = time.monotonic() + timeout
        while True:
            number = f"hello {next(self._numbers)}"
            try:
                self._ask(number, {"hello": number}, 2)
                return
            except LostError:
                if time.monotonic() > deadline:
                    raise

    def _ask(self, number: object, request: dict[str, Any], timeout: float) -> dict[str, Any]:
        mine: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        with self._lock:
            self._waiting[number] = mine
            try:
                # The first newline ends what a guest that is gone may have left half read.
                self._socket.sendall(b"\n" + json.dumps(request).encode() + b"\n")
            except OSError as error:
                raise LostError(f"the machine is gone: {error}") from None
        try:
            answer = mine.get(timeout=timeout)
        except queue.Empty:
            raise LostError(f"no answer in {timeout:.0f} s to {str(request)[:300]}") from None
        finally:
            del self._waiting[number]
        if answer is None:
            raise LostError("the machine is gone")
        return answer

    def _read(self) -> None:
        held = b""
        with contextlib.suppress(OSError):
            while got := self._socket.recv(65536):
                *lines, held = (held + got).split(b"\n")
                for line in lines:
                    with contextlib.suppress(ValueError):
                        answer = json.loads(line)
                        self._hand_over(answer.get("id", answer.get("hello")), answer)
        for number in list(self._waiting):
            self._hand_over(number, None)

    def _hand_over(self, number: object, answer: dict[str, Any] | None) -> None:
        waiting = self._waiting.get(number)
        if waiting is not None:
            waiting.put(answer)
