"""Read JSON-RPC messages by the standard library's JSON decoder; used by ``library``.

python-ovs has a decoder in C, which its packages on PyPI lack.  Its other one is written in Python and handles
character by character: a hundred times the time.
"""

from __future__ import annotations

import json
import re
from typing import Any

_ESCAPES = re.compile(r"\\.", re.DOTALL)
_BRACES = re.compile("[{}]")
_decode = json.JSONDecoder().raw_decode


class StreamParser:
    """Parser of one message, a JSON object, that arrives in pieces; has the methods of ``ovs.json.Parser``."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._length = self._depth = 0
        self._in_string = False
        self._backslash = ""
        """The last character so far, if it begins an escape."""
        self._message: Any = None
        self._done = False

    def feed(self, text: str) -> int:
        """Take a piece; returns how many characters of it belong to the message."""
        if not self._pieces:
            start = len(text) - len(text.lstrip())
            if start == len(text):
                return start
            if text[start] != "{":
                return self._end("no JSON object", len(text))
        before = self._length
        self._pieces.append(text)
        self._length += len(text)
        if not self._may_be_whole(text):
            return len(text)
        whole = "".join(self._pieces)
        try:
            message, end = _decode(whole, len(whole) - len(whole.lstrip()))
        except (ValueError, RecursionError) as exc:
            return self._end(str(exc), len(text))
        return self._end(message, end - before)

    def is_done(self) -> bool:
        """True if the message is complete, or malformed."""
        return self._done

    def finish(self) -> Any:
        """Return the message; the error as text if it is malformed."""
        return self._message if self._done else "unexpected end of input"

    def _end(self, message: Any, taken: int) -> int:
        self._message, self._done = message, True
        return taken

    def _may_be_whole(self, text: str) -> bool:
        """True if the braces outside strings close the object in this piece."""
        text = self._backslash + text
        if "\\" in text:
            text = _ESCAPES.sub("", text)
            self._backslash = text[-1:] if text.endswith("\\") else ""
            text = text.removesuffix("\\")
        parts = text.split('"')
        outside = "".join(parts[self._in_string :: 2])
        self._in_string ^= len(parts) % 2 == 0
        for brace in _BRACES.findall(outside):
            self._depth += 1 if brace == "{" else -1
            if not self._depth:
                return True
        return False
