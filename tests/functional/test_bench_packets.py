"""The bench of packets runs, and every packet arrives with the right addresses.  What one costs is not asserted."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from bench.packets.site import METHODS, NO_FILTER, WAYS
from bench.sandbox import MARKER

ROOT = Path(__file__).parents[2]
WIDTH = 17


def test_all_methods_deliver_all_packets() -> None:
    """A packet with other addresses than expected ends the bench with an error."""
    words = ["--fips", "1,3", "--rounds", "1", "--packets", "300", "--connections", "50"]
    done = subprocess.run(
        [sys.executable, "-m", "bench.packets", *words],
        cwd=ROOT, env={name: value for name, value in os.environ.items() if name != MARKER},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("packets lost: 0\n") == 2
    for way in WAYS:
        rows = [line for line in done.stdout.splitlines() if line.startswith(f"  {way} ")]
        assert len(rows) == 4, done.stdout
        for row in rows:
            cells = [row[30:][column * WIDTH :][:WIDTH].strip() for column in range(len(METHODS))]
            without = [method for method, cell in zip(METHODS, cells, strict=True) if cell == "–"]
            assert without == ([NO_FILTER] if way == "FIP in" else []), row
