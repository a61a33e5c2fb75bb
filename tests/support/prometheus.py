"""Metrics as Prometheus reads them."""

from __future__ import annotations

import shutil
import subprocess

from prometheus_client.parser import text_string_to_metric_families

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]
"""(name of the series, its labels in order) → value."""


def samples(text: bytes) -> Samples:
    """Parse an answer of /metrics; a series must not be there twice."""
    found: Samples = {}
    for family in text_string_to_metric_families(text.decode()):
        for one in family.samples:
            key = (one.name, tuple(sorted(one.labels.items())))
            assert key not in found, key
            found[key] = one.value
    return found


def value(text: bytes, name: str, **labels: str) -> float | None:
    """Value of one series, None if it is not there."""
    return samples(text).get((name, tuple(sorted(labels.items()))))


def promtool(*words: str, stdin: bytes = b"") -> str | None:
    """What promtool says if it has something against it; None if it is content, or not installed.

    Not in bindep.txt: Debian has it in the package prometheus only, which takes 330 MB with what it needs, and starts
    a server.
    """
    if shutil.which("promtool") is None:
        return None
    done = subprocess.run(["promtool", *words], input=stdin, capture_output=True, check=False)
    return None if done.returncode == 0 else (done.stdout + done.stderr).decode()
