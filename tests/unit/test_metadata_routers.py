"""Ends of routers when something is not as it should be."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest

from dvr_agent.errors import ServiceError
from dvr_agent.metadata.settings import ProxySettings
from dvr_agent.metadata_proxy import served_routers
from dvr_agent.metadata_proxy.fd_budget import FdBudget
from dvr_agent.metadata_proxy.proxy_state import ProxyState
from dvr_agent.metadata_proxy.served_routers import ServedRouters


class Stuck:
    """A connection that does not close."""

    client = "192.0.2.1"

    def abort(self) -> None:
        pass


def listener() -> socket.socket:
    one = socket.create_server(("127.0.0.1", 0))
    one.setblocking(False)
    return one


def run(story: Callable[[ServedRouters], Awaitable[None]]) -> None:
    async def begin() -> None:
        await story(ServedRouters(ProxyState(ProxySettings("/nowhere"), FdBudget(1000))))

    asyncio.run(begin())


def test_a_connection_that_does_not_close_holds_up_no_other_router(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served_routers, "END", 0.01)

    async def story(all_: ServedRouters) -> None:
        await all_.serve("a", 1, [listener()])
        (router,) = [all_.get("a")]
        assert router is not None
        stuck, sockets = Stuck(), [listener()]
        router.join(stuck)
        with pytest.raises(ServiceError):
            await all_.stop("a")
        with pytest.raises(ServiceError):
            await all_.serve("a", 2, sockets)
        assert sockets[0].fileno() < 0
        await all_.serve("b", 3, [listener()])
        await all_.stop("b")
        router.leave(stuck)
        await all_.stop("a")
        assert list(all_.ids()) == []

    run(story)


def test_a_listening_socket_that_is_closed_already_does_not_stop_the_end() -> None:
    async def story(all_: ServedRouters) -> None:
        one = listener()
        await all_.serve("a", 1, [one])
        asyncio.get_running_loop().remove_reader(one.fileno())
        one.close()
        await all_.end()
        assert await asyncio.sleep(0, True)

    run(story)
