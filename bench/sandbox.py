"""Private namespaces: of the whole bench, and of each measurement in it."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from dvr_agent.cli.demo.sandbox import SandboxError, run_privately
from tests.support.waiting import wait_for

MARKER = "DVR_AGENT_BENCH_SANDBOX"
CLONE_NEWNS, CLONE_NEWNET = 0x00020000, 0x40000000
MS_REC, MS_PRIVATE = 1 << 14, 1 << 18
MNT_DETACH = 2

_libc = ctypes.CDLL(None, use_errno=True)


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
    _check(_libc.unshare(CLONE_NEWNET | CLONE_NEWNS), "unshare")
    _check(_libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None), "mount --make-rprivate /")
    _check(_libc.mount(b"bench", b"/run", b"tmpfs", 0, b"mode=755"), "mount /run")
    Path("/run/netns").mkdir()


def settle(namespaces: Iterable[str], prefixes: tuple[str, ...]) -> None:
    """Remove the namespaces and wait until the kernel has done so, seen by the devices whose other end was there.

    What is still being torn down would slow the next measurement.
    """
    for name in namespaces:
        path = f"/run/netns/{name}"
        _libc.umount2(path.encode(), MNT_DETACH)
        os.unlink(path)
    wait_gone(*prefixes)


def wait_gone(*prefixes: str) -> None:
    """Wait until this namespace has no device whose name begins so."""
    wait_for(lambda: not any(name.startswith(prefixes) for name in devices()), f"no {prefixes} is left", every=0.05)


def devices() -> list[str]:
    """Names of the devices in the thread's own namespace."""
    lines = Path("/proc/thread-self/net/dev").read_text().splitlines()[2:]
    return [line.partition(":")[0].strip() for line in lines]


def _check(result: int, what: str) -> None:
    if result:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
