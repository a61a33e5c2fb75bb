"""What makes a node give up its HA router: each is inflicted on the active one, and undone."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator

from tests.support.cloud.ha import keepalived, send
from tests.support.cloud.host import Host
from tests.support.cloud.sandbox import run
from tests.support.waiting import wait_for

RESPAWN = 150.0
"""Seconds until an agent must have found that keepalived is gone; the reference agent looks once a minute."""


@contextlib.contextmanager
def terminated(node: Host, router: str) -> Iterator[None]:
    """Keepalived is ended by SIGTERM; it says good-bye to its peer."""
    send(node, router, signal.SIGTERM)
    yield
    _runs(node, router)


@contextlib.contextmanager
def killed(node: Host, router: str) -> Iterator[None]:
    """Keepalived is killed; its addresses stay."""
    send(node, router, signal.SIGKILL)
    yield
    _runs(node, router)


@contextlib.contextmanager
def cut(node: Host, router: str) -> Iterator[None]:
    """The node's cables to external and HA networks are pulled."""
    del router
    cables = [node.cable(device) for device in node.plan.uplinks]
    for cable in cables:
        run("ip", "link", "set", cable, "down")
    yield
    for cable in cables:
        run("ip", "link", "set", cable, "up")


@contextlib.contextmanager
def frozen(node: Host, router: str) -> Iterator[None]:
    """Keepalived hangs, as on a host that has no time for it."""
    send(node, router, signal.SIGSTOP)
    yield
    send(node, router, signal.SIGCONT)


def _runs(node: Host, router: str) -> None:
    wait_for(lambda: keepalived(node, router), f"keepalived runs again on {node.name}", RESPAWN)


CAUSES: dict[str, Callable[[Host, str], contextlib.AbstractContextManager[None]]] = {
    "SIGTERM": terminated,
    "SIGKILL": killed,
    "link loss": cut,
    "freeze": frozen,
}
