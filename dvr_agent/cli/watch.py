"""Repeats an output until Ctrl-C: in place on a terminal, block after block where the output is piped."""

from __future__ import annotations

import contextlib
import io
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator

from dvr_agent.cli.output import BOLD, Output
from dvr_agent.plural import count

Draw = Callable[[Output], int]
"""Writes one block and returns the exit code that it stands for."""

_BEGIN = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J"
"""Control sequences (ECMA-48, xterm): alternate screen, no cursor, long lines are cut instead of wrapped, clear."""
_END = "\x1b[?7h\x1b[?25h\x1b[?1049l"
_HOME, _END_OF_LINE, _BELOW = "\x1b[H", "\x1b[K", "\x1b[J"
_TERMINATED = 128 + signal.SIGTERM


def watch(draw: Draw, seconds: float, out: Output) -> int:
    """Draw every so many seconds until Ctrl-C; returns the exit code of the last block.

    On a terminal each block overwrites the last one line by line, in one write, so that nothing flickers; what does not
    fit is cut, with the number of lines that are missing.  JSON is one line for each block.
    """
    code, in_place = 0, out.is_terminal and not out.json
    with _screen(out) if in_place else contextlib.nullcontext():
        try:
            while True:
                code = _draw_in_place(draw, seconds, out) if in_place else _draw_block(draw, out)
                time.sleep(seconds)
        except KeyboardInterrupt:
            return code


def clock() -> str:
    """Return the local time."""
    return time.strftime("%Y-%m-%d %H:%M:%S")


def _draw_block(draw: Draw, out: Output) -> int:
    """Append a block; the reader of a pipe gets it whole."""
    if out.json:
        block = Output(True, io.StringIO(), one_line=True)
    else:
        block = Output(False, io.StringIO(), colour=out.is_coloured)
        block.line(clock(), BOLD)
    code = draw(block)
    out.text(block.written + ("" if out.json else "\n"))
    out.flush()
    return code


def _draw_in_place(draw: Draw, seconds: float, out: Output) -> int:
    block = Output(False, io.StringIO(), colour=out.is_coloured)
    block.line(f"{clock()}, every {seconds:g} s; Ctrl-C ends", BOLD)
    code = draw(block)
    height = shutil.get_terminal_size().lines
    lines = block.written.splitlines()
    if len(lines) > height:
        lines[height - 1 :] = [f"… and {count(len(lines) - height + 1, 'more line')}"]
    out.text(_HOME + "\r\n".join(line + _END_OF_LINE for line in lines) + _BELOW)
    out.flush()
    return code


@contextlib.contextmanager
def _screen(out: Output) -> Iterator[None]:
    """Use the alternate screen inside the block; the terminal is as it was afterwards, also after SIGTERM."""
    before = signal.signal(signal.SIGTERM, _terminate)
    out.text(_BEGIN)
    try:
        yield
    finally:
        out.text(_END)
        out.flush()
        signal.signal(signal.SIGTERM, before)


def _terminate(_number: int, _frame: object) -> None:
    sys.exit(_TERMINATED)
