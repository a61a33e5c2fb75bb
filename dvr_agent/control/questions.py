"""What both helper processes read in the agent's questions: which one it is, which router, from which router on."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TypeVar

from dvr_agent.control.packets import Message
from dvr_agent.errors import ServiceError

PAGE = 200
"""Routers in one answer to ``list``."""
ROUTER_ID = re.compile(r"[0-9A-Za-z._-]{1,64}")
"""Strict, since the id goes into headers and log lines."""

Handler = TypeVar("Handler")


def handler_of(question: Message, handlers: Mapping[str, Handler]) -> Handler:
    """Return the handler of a question, by its key ``do``.

    :raises ServiceError: there is no such question
    """
    do = question.get("do")
    handler = handlers.get(do) if isinstance(do, str) else None
    if handler is None:
        raise ServiceError(f"do = {str(do)[:40]!r}: that is no question of the control protocol")
    return handler


def router_of(question: Message) -> str:
    """Return the router id in a question.

    :raises ServiceError: there is none
    """
    router_id = question.get("router")
    if not isinstance(router_id, str) or ROUTER_ID.fullmatch(router_id) is None:
        raise ServiceError(f"router = {str(router_id)[:40]!r}: expected a router id")
    return router_id


def page_of(question: Message, router_ids: Iterable[str]) -> tuple[list[str], bool]:
    """Return the next routers of a list, sorted, and whether there are more.

    :raises ServiceError: the question does not say after which router
    """
    after = question.get("after", "")
    if not isinstance(after, str):
        raise ServiceError(f"after = {str(after)[:40]!r}: expected a router id or an empty text")
    found = sorted(one for one in router_ids if one > after)
    return found[:PAGE], len(found) > PAGE
