"""Another program that holds the lock of iptables programs."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from dvr_agent.kernel.iptables.lock import XTABLES_LOCK


@contextmanager
def held_lock() -> Iterator[subprocess.Popen[bytes]]:
    """Another program holds the lock until the block ends."""
    words = ["flock", XTABLES_LOCK, "sh", "-c", "echo held; exec sleep 600"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, start_new_session=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
