"""Answers the questions of the front, in threads of its own.

The front talks to browsers and may have been taken over by one: each question has its handler here, and each argument
its form.  Nothing is answered that ``dvrctl`` does not print.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlencode

from oslo_config import cfg

from dvr_agent.cli.status import UnknownResourceError, UnreachableError, ask
from dvr_agent.cli.web.commands import Commands
from dvr_agent.cli.web.counters import device_counters
from dvr_agent.cli.web.documents import DocumentIndex
from dvr_agent.cli.web.host import host_summary
from dvr_agent.config import config_arguments, source_settings
from dvr_agent.web.wire import Channel, Kind, Message, QuestionError

LOG = logging.getLogger(__name__)

THREADS = 6
PENDING = 48
"""Questions at a time, those that wait for a thread included."""
NAMESPACES = 8

_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_FORMS = {
    "router id": re.compile(_UUID),
    "floating IP, address or router id": re.compile(r"[0-9a-fA-F][0-9a-fA-F:.-]{0,63}"),
    "number": re.compile(r"\d{1,15}"),
    "namespace": re.compile(rf"(qrouter|snat|fip)-{_UUID}"),
    "version": re.compile(r"[0-9a-f]{0,64}"),
}

Argument = Mapping[str, Any]


class Answers:
    """Answers questions until the channel closes."""

    def __init__(self, conf: cfg.ConfigOpts, channel: Channel) -> None:
        self._admin_socket: str = conf.dvr_agent.admin_socket
        self._commands = Commands(config_arguments(conf))
        self._documents = DocumentIndex(source_settings(conf))
        self._channel = channel
        self._places = threading.Semaphore(PENDING)
        self._handlers: dict[str, Callable[[Argument], Any]] = {
            "status": lambda argument: self._daemon("/status"),
            "history": self._history,
            "index": lambda argument: self._documents.answer(_optional(argument, "version", "version")),
            "router": lambda argument: self._commands.run("show", "router", _one(argument, "id", "router id")),
            "host": lambda argument: host_summary(),
            "rules": lambda argument: self._commands.run("show", "rules", _one(argument, "namespace", "namespace")),
            "why": self._why,
            "counters": _counters,
        }

    def run(self) -> None:
        """Answer questions; returns when the front has ended."""
        pool = ThreadPoolExecutor(THREADS, "answer")
        try:
            while (message := self._channel.receive()) is not None:
                if not isinstance(message.get("id"), int):
                    continue
                if not self._places.acquire(blocking=False):
                    self._send({"id": message["id"], "error": "too many questions", "kind": Kind.BUSY.value})
                    continue
                pool.submit(self._answer_and_leave, message)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            self._commands.close()

    def _answer_and_leave(self, message: Message) -> None:
        try:
            self._send({"id": message["id"], **self._answered(message)})
        finally:
            self._places.release()

    def _answered(self, message: Message) -> Message:
        question, argument = message.get("question"), message.get("argument")
        handler = self._handlers.get(str(question))
        if handler is None or not isinstance(argument, dict):
            return {"error": f"no question {str(question)[:40]!r}", "kind": Kind.BAD.value}
        try:
            return {"answer": handler(argument)}
        except QuestionError as exc:
            return {"error": str(exc), "kind": exc.kind.value}
        except Exception:  # a bug must not end the page
            LOG.exception("the page's question %s failed", question)
            return {"error": "see the log of dvrctl web", "kind": Kind.FAILED.value}

    def _send(self, message: Message) -> None:
        try:
            self._channel.send(message)
        except OSError:
            LOG.debug("the front has ended")

    def _history(self, argument: Argument) -> Any:
        wanted = {
            "router": _optional(argument, "router", "router id"),
            "after": _optional(argument, "after", "number"),
            "limit": _optional(argument, "limit", "number"),
        }
        return self._daemon("/history?" + urlencode({key: text for key, text in wanted.items() if text is not None}))

    def _why(self, argument: Argument) -> Any:
        return self._commands.run("why", _one(argument, "of", "floating IP, address or router id"))

    def _daemon(self, resource: str) -> Any:
        try:
            return ask(self._admin_socket, resource)
        except UnknownResourceError as exc:
            raise QuestionError(Kind.MISSING, f"this version of dvr-agent has no {resource.partition('?')[0]}") from exc
        except UnreachableError as exc:
            raise QuestionError(Kind.UNREACHABLE, str(exc)) from exc


def _counters(argument: Argument) -> Any:
    wanted = _one(argument, "namespaces", "").split(",")
    if len(wanted) > NAMESPACES:
        raise QuestionError(Kind.BAD, f"counters of {NAMESPACES} namespaces at most")
    for namespace in wanted:
        _check(namespace, "namespaces", "namespace")
    return device_counters(wanted, _optional(argument, "router", "router id") or "")


def _optional(argument: Argument, name: str, form: str) -> str | None:
    return None if argument.get(name) is None else _one(argument, name, form)


def _one(argument: Argument, name: str, form: str) -> str:
    """Return an argument as text.

    :param form: key of :data:`_FORMS`; empty: any text
    :raises QuestionError: it is missing, or of another form
    """
    value = argument.get(name)
    if value is None or isinstance(value, bool) or not isinstance(value, str | int):
        raise QuestionError(Kind.BAD, f"the argument {name} is missing")
    text = str(value)
    if form:
        _check(text, name, form)
    return text


def _check(text: str, name: str, form: str) -> None:
    if _FORMS[form].fullmatch(text) is None:
        raise QuestionError(Kind.BAD, f"{name} = {text[:60]!r}: expected a {form}")
