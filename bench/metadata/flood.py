"""Instances of one router that ask as fast as they can, over many connections at a time; ended by SIGTERM."""

from __future__ import annotations

import sys
import threading

from bench.metadata.proxies import ask, connect


def flood(namespace: str, source: str) -> None:
    while True:
        try:
            with connect(namespace, source) as connection:
                ask(connection)
        except (TimeoutError, OSError):
            pass


if __name__ == "__main__":
    name, clients, each = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    for client in range(clients):
        for _ in range(each):
            threading.Thread(target=flood, args=(name, f"127.0.1.{client + 1}"), daemon=True).start()
    threading.Event().wait()
