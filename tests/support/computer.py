"""A system that tests tell what to do: a virtual machine (``tests_vm``) or a booted tree (``tests_deb``)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from tests.support.waiting import wait_for

T = TypeVar("T")
PATIENCE = 180.0
"""Seconds until something that must happen in the system has failed."""


@dataclass(frozen=True)
class Done:
    """What became of a command in the system."""

    words: tuple[str, ...]
    code: int
    out: str
    err: str

    def __str__(self) -> str:
        return f"{' '.join(self.words)} → {self.code}\n{self.out}{self.err}".rstrip()


class Computer(ABC):
    """A running system with systemd as process 1."""

    @abstractmethod
    def execute(self, words: tuple[str, ...], text: str, timeout: float) -> Done:
        """Run a command as root, whatever its exit code.

        :param text: what it reads on stdin
        :param timeout: seconds after which it is ended, with the exit code 124
        """

    def run(self, *words: object, check: bool = True, text: str = "", timeout: float = PATIENCE) -> Done:
        """Run a command as root.

        :raises AssertionError: its exit code is not 0, unless ``check`` is false
        """
        done = self.execute(tuple(map(str, words)), text, timeout)
        if check and done.code:
            raise AssertionError(str(done))
        return done

    def shell(self, script: str, check: bool = True, timeout: float = PATIENCE) -> Done:
        """Run a shell script; it ends with the first command that fails."""
        return self.run("bash", "-euo", "pipefail", "-s", check=check, text=script, timeout=timeout)

    def write(self, path: str, text: str) -> None:
        """Write a file as an operator's tools do: beside it, then renamed over it."""
        self.run("sh", "-ec", 'mkdir -p "$(dirname "$1")"; cat >"$1.new"; mv "$1.new" "$1"', "sh", path, text=text)

    def wait_until(self, what: str, condition: Callable[..., T], timeout: float = PATIENCE) -> T:
        """Ask until the answer is true; with the patience that an emulated machine needs."""
        answer: T = wait_for(condition, what, timeout, every=0.5)
        return answer
