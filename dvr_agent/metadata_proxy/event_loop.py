"""Waits until sockets are readable or writable, on the event loop.

``loop.sock_recv()`` and the like are not used: after a cancellation they leave the descriptor registered until a later
turn, when another socket may have its number.
"""

from __future__ import annotations

import asyncio
import socket


async def readable(waited_for: socket.socket) -> None:
    """Wait until a socket can be read."""
    loop, ready = asyncio.get_running_loop(), asyncio.get_running_loop().create_future()
    loop.add_reader(waited_for.fileno(), _set, ready)
    try:
        await ready
    finally:
        loop.remove_reader(waited_for.fileno())


async def writable(waited_for: socket.socket) -> None:
    """Wait until a socket can be written to."""
    loop, ready = asyncio.get_running_loop(), asyncio.get_running_loop().create_future()
    loop.add_writer(waited_for.fileno(), _set, ready)
    try:
        await ready
    finally:
        loop.remove_writer(waited_for.fileno())


def _set(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
