"""What a running conntrackd is told when the state of this host changes (conntrackd(8)); the order counts."""

from __future__ import annotations

import subprocess
from pathlib import Path

from dvr_agent.errors import ServiceError

NAME = "conntrackd"
AT_MASTER = ("-c", "-f", "-R", "-B")
"""Write the other host's connections into the kernel, forget them, read the kernel's, and send them to the others."""
AT_BACKUP = ("-t", "-n")
"""Have the kernel forget its connections in a minute (a commit cancels it), and ask the others for theirs."""
AT_FAULT = ("-t",)
SECONDS = 10.0
"""A commit of 100,000 connections takes a second or two."""


def tell(config: Path, *commands: str) -> None:
    """Tell a running conntrackd commands, one after the other.

    :raises ServiceError: it cannot be reached, or refuses one
    """
    for command in commands:
        words = (NAME, "-C", str(config), command)
        try:
            done = subprocess.run(
                words, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=SECONDS,
                check=False,
            )  # fmt: skip
        except (OSError, subprocess.SubprocessError) as exc:
            raise ServiceError(f"{' '.join(words)}: {exc}") from exc
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if line.strip()]
            raise ServiceError(f"{' '.join(words)}: {lines[-1][:200] if lines else f'exit code {done.returncode}'}")
