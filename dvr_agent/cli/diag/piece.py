"""One piece of the archive: a name, how it is made, and how it is filtered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dvr_agent.cli.diag.secret_filter import SecretFilter

Make = Callable[[], str]
"""Makes the text of a piece; raises any exception if it cannot be had."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece.

    :ivar name: path in the archive
    :ivar clean: takes the secrets out of the text
    """

    name: str
    make: Make
    clean: Callable[[SecretFilter, str], str]


def text_piece(name: str, make: Make) -> Piece:
    """Return a piece of any text."""
    return Piece(name, make, SecretFilter.text)


def json_piece(name: str, make: Make) -> Piece:
    """Return a piece that is JSON."""
    return Piece(name, make, SecretFilter.json)


def config_piece(name: str, make: Make) -> Piece:
    """Return a piece that is a configuration file of oslo.config, or of the same form."""
    return Piece(name, make, SecretFilter.config)
