"""Writes the scripts that complete dvrctl into DIRECTORY/bash, /zsh and /fish, under the names that shells look for."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from dvr_agent.cli.ctl import make_parser
from tools.completion import by_shtab, fish


def scripts() -> dict[str, str]:
    """Map each file to its text."""
    return {
        "bash/dvrctl": by_shtab.script(make_parser(), "bash"),
        "zsh/_dvrctl": by_shtab.script(make_parser(), "zsh"),
        "fish/dvrctl.fish": fish.script(make_parser()),
    }


def main() -> int:
    """Write all scripts."""
    parser = argparse.ArgumentParser(prog="python -m tools.completion", description=__doc__)
    parser.add_argument("directory", type=Path)
    directory = parser.parse_args().directory
    for name, text in scripts().items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
