#!/usr/bin/env python3
"""Writes ``etc/dvr-agent.conf.sample`` with oslo-config-generator, or with ``--check`` says whether it is fresh.

What must be fresh are our own options.  The blocks of oslo.log change with its releases, not with this project;
a difference there is only mentioned, so that a new oslo.log cannot break a build that nobody touched.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tools.generated_part import tell_stale  # noqa: E402 - the checkout is put on the path first

SAMPLE = ROOT / "etc" / "dvr-agent.conf.sample"
GENERATOR_CONFIG = ROOT / "etc" / "dvr-agent-config-generator.conf"
OURS = "dvr_agent"

_SECTION = re.compile(r"^\[(\S+)\]$")
_BLOCK = re.compile(r"^#\n# From (\S+)\n#\n", re.MULTILINE)


def generate() -> str:
    """The sample as the generator makes it now."""
    with tempfile.TemporaryDirectory() as directory:
        output = Path(directory) / "sample"
        generator = Path(sys.executable).with_name("oslo-config-generator")
        done = subprocess.run(
            [generator, "--config-file", GENERATOR_CONFIG, "--output-file", output],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "LC_ALL": "C.UTF-8"},
        )
        if done.returncode:
            raise SystemExit(f"oslo-config-generator failed:\n{done.stderr}")
        return output.read_text(encoding="utf-8")


def blocks(sample: str) -> dict[tuple[str, str], str]:
    """(section, namespace) → the text of that block."""
    found: dict[tuple[str, str], str] = {}
    for part in re.split(r"^(?=\[\S+\]$)", sample, flags=re.MULTILINE):
        section = _SECTION.match(part.partition("\n")[0])
        if section is None:
            continue
        pieces = _BLOCK.split(part)
        for namespace, text in zip(pieces[1::2], pieces[2::2], strict=True):
            found[section[1], namespace] = text.strip()
    return found


def check(sample: Path = SAMPLE) -> int:
    """0 if our options in the sample are those of the code; else 1 and the difference."""
    old, new = sample.read_text(encoding="utf-8"), generate()
    if old == new:
        return 0
    there, wanted = blocks(old), blocks(new)
    stale = [key for key in sorted(there.keys() | wanted.keys()) if there.get(key) != wanted.get(key)]
    if stale and all(namespace != OURS for _, namespace in stale):
        print(f"{SAMPLE.name}: fresh; this release of {', '.join(sorted({key[1] for key in stale}))} has other options")
        return 0
    return tell_stale(SAMPLE.name, old, new, "make sample-config")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the sample is stale")
    if parser.parse_args().check:
        return check()
    SAMPLE.write_text(generate(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
