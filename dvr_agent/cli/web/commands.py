"""Runs ``dvrctl -o json …`` for the page: what reads the kernel is a process of its own, with a time limit.

The same question of several pages is asked once, and few processes run at a time, with low priority: a page must not
take the host's processors from routers.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

from dvr_agent.cli.web import python
from dvr_agent.web.wire import Kind, QuestionError

SECONDS = 25.0
AT_ONCE = 2
FRESH_SECONDS = 1.0
"""An answer counts for so long."""
NICE = 10
USAGE_ERROR = 64
"""Exit code of dvrctl for a verb that this version does not have (``dvr_agent.cli.ctl``)."""


class Commands:
    """Runs dvrctl.

    :param config: its arguments ``--config-file`` and ``--config-dir``
    """

    def __init__(self, config: Sequence[str]) -> None:
        self._start = python.command("dvr_agent.cli.ctl", *config, "-o", "json")
        self._lock = threading.Lock()
        self._places = threading.Semaphore(AT_ONCE)
        self._running: set[subprocess.Popen[str]] = set()
        self._answers: dict[tuple[str, ...], tuple[float, Future[Any]]] = {}
        """Words → (when it ended, by the monotonic clock, infinity before; the answer)."""

    def run(self, *words: str) -> Any:
        """Return the JSON that a verb prints.

        :raises QuestionError: it fails, takes too long, or is unknown to this dvrctl
        """
        with self._lock:
            self._forget_old()
            known = self._answers.get(words)
            if known is None:
                answer = Future[Any]()
                self._answers[words] = (float("inf"), answer)
        if known is not None:
            return known[1].result()
        try:
            answer.set_result(self._run(words))
        except BaseException as exc:  # noqa: BLE001 - it goes to everyone who waits, the caller too
            answer.set_exception(exc)
        with self._lock:
            self._answers[words] = (time.monotonic(), answer)
        return answer.result()

    def close(self) -> None:
        """Kill what runs: nobody waits for it any more."""
        for process in list(self._running):
            process.kill()

    def _forget_old(self) -> None:
        limit = time.monotonic() - FRESH_SECONDS
        self._answers = {words: one for words, one in self._answers.items() if one[0] > limit}

    def _run(self, words: tuple[str, ...]) -> Any:
        verb = f"dvrctl {' '.join(words)}"
        if not self._places.acquire(timeout=SECONDS):
            raise QuestionError(Kind.BUSY, f"{verb}: too much is asked for at once")
        try:
            code, out, err = self._execute([*self._start, *words], verb)
        finally:
            self._places.release()
        if code == USAGE_ERROR:
            raise QuestionError(Kind.MISSING, f"this version has no dvrctl {words[0]}")
        try:
            return json.loads(out)
        except ValueError:
            reason = err.strip().splitlines()[-1:] or [f"{verb} ended with {code}"]
            raise QuestionError(Kind.FAILED, reason[0].removeprefix("dvrctl: ")) from None

    def _execute(self, command: list[str], verb: str) -> tuple[int, str, str]:
        """Run a command; returns exit code, output and errors.

        :raises QuestionError: it took too long and was killed
        """
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            errors="replace", env={**os.environ, **python.ENVIRONMENT},
        )  # fmt: skip
        self._running.add(process)
        try:
            with process:
                with contextlib.suppress(OSError):  # it has ended already
                    os.setpriority(os.PRIO_PROCESS, process.pid, NICE)
                try:
                    out, err = process.communicate(timeout=SECONDS)
                except subprocess.TimeoutExpired:
                    process.kill()
                    raise QuestionError(Kind.BUSY, f"{verb} took more than {SECONDS:.0f} s") from None
                return process.returncode, out, err
        finally:
            self._running.discard(process)
