"""Private namespaces: of the whole bench, and of each measurement in it."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from dvr_agent import libc
from dvr_agent.cli.demo.sandbox import SandboxError, run_privately
from tests.support.waiting import wait_for

MARKER = "DVR_AGENT_BENCH_SANDBOX"


def enter_sandbox(module: str, arguments: Sequence[str]) -> None:
    """Run this program again in private network and mount namespaces; returns only inside them.

    As root by ``unshare -n -m``, as an ordinary user by ``unshare -r -n -m``, where user namespaces are allowed.
    """
    if os.environ.get(MARKER):
        return
    try:
        run_privately(module, arguments, MARKER)
    except SandboxError as exc:
        sys.exit(f"bench: {exc}")


def fresh_root() -> None:
    """This process becomes a host of its own: new network and mount namespaces, an empty ``/run``.

    An own ``/run`` means own ``/run/netns`` and an own ``/run/xtables.lock``: nobody else is waited for.
    """
    if not os.environ.get(MARKER):
        raise RuntimeError("not in the sandbox")
    libc.unshare(libc.CLONE_NEWNET | libc.CLONE_NEWNS)
    libc.mount(None, "/", libc.MS_REC | libc.MS_PRIVATE)
    libc.mount("bench", "/run", 0, "tmpfs")
    os.chmod("/run", 0o755)
    Path("/run/netns").mkdir()


def settle(namespaces: Iterable[str], prefixes: tuple[str, ...]) -> None:
    """Remove the namespaces and wait until the kernel has done so, seen by the devices whose other end was there.

    What is still being torn down would slow the next measurement.
    """
    for name in namespaces:
        path = f"/run/netns/{name}"
        with contextlib.suppress(OSError):
            libc.umount(path, libc.MNT_DETACH)
        os.unlink(path)
    wait_gone(*prefixes)


def wait_gone(*prefixes: str) -> None:
    """Wait until this namespace has no device whose name begins so."""
    wait_for(lambda: not any(name.startswith(prefixes) for name in devices()), f"no {prefixes} is left", every=0.05)


def devices() -> list[str]:
    """Names of the devices in the thread's own namespace."""
    lines = Path("/proc/thread-self/net/dev").read_text().splitlines()[2:]
    return [line.partition(":")[0].strip() for line in lines]
