"""Writes the manual pages into a directory."""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from pathlib import Path

from docutils.core import publish_string

from dvr_agent import __version__
from tools.manual.pages import all_pages

LONGEST = 200
"""Width of a usage text: one line for docutils to fill."""
ASCII = str.maketrans({"…": "...", "≥": "at least ", "≤": "at most ", "–": " to "})
_PARAGRAPH_AFTER_HEADING = re.compile(r"^(\.S[HS] .*\n)\.sp\n", re.MULTILINE)
"""A paragraph begins there anyway; mandoc warns of it."""
_FONT_OF_A_BLOCK = re.compile(r"^\.ft [CP]\n", re.MULTILINE)
"""docutils of Debian 12 chooses a font that mandoc does not know; a terminal has one anyway."""


def render(section: int, text: str) -> str:
    """Return a page for man; warnings of docutils are errors.

    The date is that of SOURCE_DATE_EPOCH where a build sets it, so that it gives the same bytes again.
    """
    when = time.strftime("%Y-%m-%d", time.gmtime(int(os.environ.get("SOURCE_DATE_EPOCH", time.time()))))
    fields = f":Date: {when}\n:Version: dvr-agent {__version__}\n:Manual section: {section}\n:Manual group: dvr-agent"
    settings = {"halt_level": 2, "report_level": 2, "output_encoding": "unicode", "input_encoding": "unicode"}
    source = text.replace("@FIELDS@", fields).translate(ASCII)
    page = str(publish_string(source, writer_name="manpage", settings_overrides=settings))
    page = _FONT_OF_A_BLOCK.sub("", page)
    return _PARAGRAPH_AFTER_HEADING.sub(r"\1", page).replace("\n.SH Name\n", "\n.SH NAME\n")


def main() -> int:
    """Write all pages."""
    parser = argparse.ArgumentParser(prog="python -m tools.manual", description=__doc__)
    parser.add_argument("directory", type=Path)
    directory = parser.parse_args().directory
    directory.mkdir(parents=True, exist_ok=True)
    os.environ["COLUMNS"] = str(LONGEST)
    for name, (section, text) in all_pages().items():
        (directory / f"{name}.{section}").write_text(render(section, text), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
