"""Makes private namespaces for the demo: it cannot reach the host, and they vanish with its process."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from dvr_agent import libc
from dvr_agent.errors import DvrError

MARKER = "DVR_AGENT_DEMO_SANDBOX"
NETNS = Path("/run/netns")


class SandboxError(DvrError):
    """Private namespaces cannot be made; the text says what is missing."""


def enter_sandbox(arguments: list[str]) -> None:
    """Re-execute this program in private network and mount namespaces; returns only inside them.

    As root by ``unshare -n -m``, as an ordinary user by ``unshare -r -n -m``, where user namespaces are allowed.

    :param arguments: of dvrctl, without the program's name
    :raises SandboxError: unshare, or the right to use it, is missing
    """
    if os.environ.pop(MARKER, None):
        _own_run_directory()
        return
    run_privately("dvr_agent.cli.ctl", arguments, MARKER)


def run_privately(module: str, arguments: Sequence[str], marker: str) -> NoReturn:
    """Replace this process by ``python -m module`` in private network and mount namespaces.

    :param marker: environment variable that tells the new process where it is
    :raises SandboxError: unshare is missing
    """
    unshare = shutil.which("unshare")
    if unshare is None:
        raise SandboxError("unshare is missing (Debian package util-linux)")
    flags = ["-n", "-m"] if os.geteuid() == 0 else ["-r", "-n", "-m"]
    os.environ[marker] = "1"
    sys.stdout.flush()
    os.execv(unshare, [unshare, *flags, "--", sys.executable, "-m", module, *arguments])


def _own_run_directory() -> None:
    try:
        libc.mount(None, "/", libc.MS_REC | libc.MS_PRIVATE)
        # All of it: named namespaces, the lock that iptables programs share, our own locks and sockets.
        libc.mount("demo", "/run", 0, "tmpfs")
    except OSError as exc:
        raise SandboxError(f"cannot make mounts private: {exc.strerror}") from exc
    NETNS.mkdir()
