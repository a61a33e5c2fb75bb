"""Makes system calls of a living process fail, or kills it at one, by strace."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.support.waiting import wait_for


def is_missing() -> bool:
    """True without strace: what needs it is skipped."""
    return shutil.which("strace") is None


@contextlib.contextmanager
def injected(pid: int, call: str, what: str, log: Path | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """Change what a system call does in all threads of a process, for as long as the block lasts.

    :param what: of strace's ``inject``: ``error=ENOMEM:when=3``, ``signal=SIGKILL:when=2``; the count is each thread's
    :param log: where the calls are written; None: nowhere
    """
    words = ["strace", "-f", "-qq", "-p", str(pid), "-e", f"trace={call}", "-o", str(log or "/dev/null")]
    inject = ["-e", f"inject={call}:{what}"] if what else []
    with subprocess.Popen([*words, *inject], stderr=subprocess.PIPE) as tracer:
        try:
            wait_for(lambda: tracer.poll() is not None or _is_traced(pid), "strace has taken hold")
            if tracer.poll() is not None and tracer.stderr is not None:
                raise RuntimeError(tracer.stderr.read().decode())
            yield tracer
        finally:
            if tracer.poll() is None:
                tracer.send_signal(signal.SIGINT)
            tracer.wait()


def _is_traced(pid: int) -> bool:
    try:
        tasks = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/status")]
    except OSError:
        return False
    return bool(tasks) and all("TracerPid:\t0\n" not in task for task in tasks)
