"""A process in place of a helper process of the agent: it answers the agent's questions with whatever it is told to."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path

HELLO = b'{"ok": true, "version": 1, "pid": 1}'


class Liar:
    """What answers on the control socket may have been taken over by an instance: it says whatever it likes.

    :param answers: ``do`` of a question → answer; may change
    """

    def __init__(self, path: Path, answers: dict[str, bytes]) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.bind(str(path))
        self._socket.listen()
        self._answers = answers
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
                while question := connection.recv(65536):
                    connection.send(self._answers.get(json.loads(question)["do"], b"{}"))
            except OSError:
                return

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
