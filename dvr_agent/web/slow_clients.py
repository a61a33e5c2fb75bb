"""Closes connections whose request does not become complete: waitress counts each byte of it as activity."""

from __future__ import annotations

from typing import Any


def close_slow_clients(server: Any) -> None:
    """Have a waitress server close connections that are in the middle of one request at two checks in a row.

    The server checks every ``cleanup_interval`` seconds (its method ``maintenance``).
    """
    check = server.maintenance
    unfinished: dict[int, Any] = {}

    def maintenance(now: float) -> None:
        nonlocal unfinished
        check(now)
        found = {}
        for number, channel in list(server.active_channels.items()):
            request = channel.request
            if request is None:
                continue
            if unfinished.get(number) is request:
                channel.will_close = True
            found[number] = request
        unfinished = found

    server.maintenance = maintenance
