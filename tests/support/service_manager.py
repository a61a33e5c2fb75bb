"""What systemd does for a service with ``FileDescriptorStoreMax=``: keeps descriptors for the next process."""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.waiting import wait_for

PASS = """\
import fcntl, os, sys
count = int(sys.argv[1])
# Above all numbers that are to be written.
given = [fcntl.fcntl(int(one), fcntl.F_DUPFD, 5000) for one in sys.argv[2 : 2 + count]]
for number, one in enumerate(given, 3):
    os.dup2(one, number)
os.closerange(3 + count, 6000)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execvp(sys.argv[2 + count], sys.argv[2 + count :])
"""


class ServiceManager:
    """Listens on a notification socket.

    :ivar stored: descriptors by name
    :ivar heard: all notifications, as lists of lines
    """

    def __init__(self, path: Path) -> None:
        self.stored: dict[str, list[int]] = {}
        self.heard: list[list[str]] = []
        self.address = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def command(self, words: Sequence[str], environment: Mapping[str, str] = os.environ) -> dict[str, Any]:
        """Return the arguments of :class:`subprocess.Popen` for a process of the service.

        What the process before has sent is handled first, as systemd does it.
        """
        self._send("SETTLE=1")
        wait_for(lambda: self.heard[-1:] == [["SETTLE=1"]], "all notifications are handled")
        passed = [(name, one) for name, descriptors in self.stored.items() for one in descriptors]
        numbers = [one for _, one in passed]
        return {
            "args": [sys.executable, "-c", PASS, str(len(numbers)), *map(str, numbers), *words],
            "pass_fds": numbers,
            "env": {
                **environment,
                "NOTIFY_SOCKET": self.address,
                "LISTEN_FDS": str(len(numbers)),
                "LISTEN_FDNAMES": ":".join(name for name, _ in passed),
            },
        }

    def wait_for_stored(self, number: int) -> None:
        """Wait until so many descriptors are stored."""
        wait_for(lambda: sum(map(len, self.stored.values())) == number, f"{number} descriptors are stored")

    def drop(self, name: str) -> None:
        """Drop what is stored by a name."""
        self._remove(name)

    def close(self) -> None:
        """Stop listening, and drop what is stored."""
        self._send("")
        self._thread.join()
        self._socket.close()
        for name in list(self.stored):
            self._remove(name)

    def _send(self, text: str) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
            out.sendto(text.encode(), self.address)

    def _listen(self) -> None:
        while True:
            data, descriptors, _, _ = socket.recv_fds(self._socket, 4096, 253)
            if not data:
                return
            lines = data.decode().split("\n")
            names = [line.removeprefix("FDNAME=") for line in lines if line.startswith("FDNAME=")]
            if "FDSTORE=1" in lines:
                self.stored.setdefault(names[0], []).extend(descriptors)
            else:
                for descriptor in descriptors:
                    os.close(descriptor)
            if "FDSTOREREMOVE=1" in lines:
                self._remove(names[0])
            self.heard.append(lines)

    def _remove(self, name: str) -> None:
        for descriptor in self.stored.pop(name, ()):
            os.close(descriptor)
