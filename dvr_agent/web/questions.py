"""Asks ``dvrctl web`` from any thread of the front, and hands each answer to the thread that waits for it."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any

from dvr_agent.web.wire import Channel, Kind, QuestionError

ANSWER_SECONDS = 40.0
"""Longer than ``dvrctl web`` takes for any answer, so that its own error comes first."""


class Questions:
    """Sends questions and receives answers.

    :param ended: called when ``dvrctl web`` has ended
    """

    def __init__(self, channel: Channel, ended: Callable[[], None]) -> None:
        self._channel, self._ended = channel, ended
        self._numbers = itertools.count(1)
        self._waiting: dict[int, Future[Any]] = {}
        threading.Thread(target=self._receive, name="answers", daemon=True).start()

    def ask(self, question: str, **argument: Any) -> Any:
        """Return the answer to a question.

        :raises QuestionError: there is none, or it does not come in time
        """
        number, answer = next(self._numbers), Future[Any]()
        self._waiting[number] = answer
        try:
            self._channel.send({"id": number, "question": question, "argument": argument})
            return answer.result(ANSWER_SECONDS)
        except FutureTimeoutError:
            raise QuestionError(Kind.BUSY, f"no answer within {ANSWER_SECONDS:.0f} s") from None
        except OSError as exc:
            raise QuestionError(Kind.FAILED, "dvrctl web has ended") from exc
        finally:
            self._waiting.pop(number, None)

    def _receive(self) -> None:
        while (message := self._channel.receive()) is not None:
            answer = self._waiting.pop(message.get("id", 0), None)
            if answer is None:
                continue  # nobody waits any more
            if "error" in message:
                answer.set_exception(QuestionError(Kind(message["kind"]), message["error"]))
            else:
                answer.set_result(message.get("answer"))
        self._ended()
