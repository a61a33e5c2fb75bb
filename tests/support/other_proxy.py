"""Stands in for the metadata proxy that neutron-l3-agent started in a namespace, and asks it as instances do."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

from tests.support import lab

METADATA, PORT = "169.254.169.254", 9697
ANSWER = b"HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\nmeta"


@contextlib.contextmanager
def proxy(netns: str) -> Iterator[list[str]]:
    """An HTTP server on the proxy's port; yields the addresses of its clients."""
    with lab.entered(netns):
        listener = socket.create_server(("0.0.0.0", PORT))
    clients: list[str] = []

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, peer = listener.accept()
                with connection, contextlib.suppress(OSError):
                    connection.settimeout(3)
                    connection.recv(4096)
                    clients.append(peer[0])
                    connection.sendall(ANSWER)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield clients
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        listener.close()


def answers(netns: str, address: str = METADATA, port: int = 80, timeout: float = 3) -> bool:
    """True if a request gets the proxy's answer."""
    with lab.entered(netns):
        caller = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    caller.settimeout(timeout)
    with caller:
        try:
            caller.connect((address, port))
            caller.sendall(b"GET /latest/meta-data/ HTTP/1.0\r\n\r\n")
            return caller.recv(4096) == ANSWER
        except OSError:
            return False


@contextlib.contextmanager
def asking(netns: str) -> Iterator[None]:
    """One request after another while the block runs; asserts that each was answered."""
    stop, told = threading.Event(), list[bool]()

    def ask() -> None:
        while not stop.is_set():
            told.append(answers(netns))

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    assert told
    assert all(told)
