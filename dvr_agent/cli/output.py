"""Writes dvrctl's output: tables, plans and JSON to stdout, one line per error to stderr.

Control characters in texts from outside (names of routers and files, errors) are escaped here.  Colour is used only on
a terminal, and not where ``NO_COLOR`` (no-color.org) is set.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Any

from dvr_agent.errors import DvrError

BOLD, RED, GREEN, YELLOW = "1", "31", "32", "33"
SIGNS = {"+": GREEN, "-": RED, "~": YELLOW}

_CONTROL = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))}


def harmless(text: str) -> str:
    """Return the text in one line, its control characters escaped."""
    return text.translate(_CONTROL)


class UsageError(DvrError):
    """Arguments do not go together, as the parser of the command line cannot tell."""


class OutputError(DvrError):
    """The output cannot be written, e.g. because the disk is full."""


class Output:
    """Standard output in one of two formats.

    :param colour: None: on a terminal, where ``NO_COLOR`` is not set
    :param one_line: each JSON document is one line
    :ivar json: True for JSON: one call of :meth:`document` writes all of it, and the text methods must not be used
    :ivar is_terminal: the stream is a terminal that understands control sequences
    """

    def __init__(
        self, as_json: bool, stream: IO[str] | None = None, colour: bool | None = None, one_line: bool = False
    ) -> None:
        self.json = as_json
        self._stream = stream or sys.stdout
        self._indent = None if one_line else 2
        self.is_terminal = self._stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self.is_coloured = self.is_terminal and not os.environ.get("NO_COLOR") if colour is None else colour

    @property
    def written(self) -> str:
        """What was written to a stream in memory (io.StringIO)."""
        return self._stream.getvalue() if isinstance(self._stream, io.StringIO) else ""

    def document(self, value: Any) -> None:
        """Write one JSON document."""
        self._write(json.dumps(value, indent=self._indent, ensure_ascii=True) + "\n")

    def json_line(self, value: Any) -> None:
        """Write one JSON document in one line: for output that is a sequence of them (JSON lines)."""
        self._write(json.dumps(value, ensure_ascii=True) + "\n")

    def line(self, text: str = "", colour: str = "") -> None:
        """Write one line; a leading sign ``+``, ``-`` or ``~`` (after the indentation) gives the line its colour."""
        text = harmless(text)
        sign = text.lstrip()[:2]
        if not colour and sign[1:] == " ":
            colour = SIGNS.get(sign[0], "")
        self._write(self._painted(text, colour) + "\n")

    def text(self, text: str) -> None:
        """Write a text of several lines as it is, e.g. a drawing that another program reads."""
        self._write(text)

    def table(self, header: Sequence[str], rows: Iterable[Sequence[object]], indent: str = "") -> None:
        """Write a table with columns as wide as their widest cell; an empty value is a dash."""
        lines = [list(header), *([harmless(str(cell)) or "-" for cell in row] for row in rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        for number, line in enumerate(lines):
            text = "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            self._write(indent + self._painted(text, BOLD if number == 0 else "") + "\n")

    def flush(self) -> None:
        """Flush the stream.

        :raises OutputError: the output cannot be written
        :raises BrokenPipeError: the reader of the output has closed it
        """
        with _output_errors():
            self._stream.flush()

    def _write(self, text: str) -> None:
        with _output_errors():
            self._stream.write(text)

    def _painted(self, text: str, colour: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if colour and self.is_coloured else text


@contextlib.contextmanager
def _output_errors() -> Iterator[None]:
    """Raise OutputError for a failure to write; a BrokenPipeError passes, since ``ctl`` ends quietly then."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as exc:
        raise OutputError(f"the output cannot be written: {exc.strerror or exc}") from exc


def complain(text: str) -> None:
    """Write one line to stderr."""
    sys.stderr.write(f"dvrctl: {harmless(text)}\n")
