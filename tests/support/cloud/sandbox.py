"""Private namespaces for a whole cloud, and the small init that each process namespace needs.

``enter`` re-executes the running command under ``unshare`` (network, mount and process namespaces): whatever happens to
it, the kernel then ends every process of the cloud, and takes the links, mounts and folders along.  Used by the
tests' conftest and by ``bench.neutron``.  As ``python -m tests.support.cloud.sandbox`` this module is process 1 inside.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

MARK = "DVR_NEUTRON_SANDBOX"
FOLDER = Path("/run/cloud")
"""Everything the cloud writes; in memory, so that MariaDB's and OVSDB's fsync cost nothing."""
CHECKOUT = Path(__file__).resolve().parents[3]

_libc = ctypes.CDLL(None, use_errno=True)


def enter(words: Sequence[str]) -> None:
    """Return inside the sandbox; outside, become ``words`` inside it.

    :raises SystemExit: not root, or no unshare
    """
    if os.environ.get(MARK):
        return
    if os.geteuid() != 0:
        sys.exit("a cloud needs root: Open vSwitch and RabbitMQ run in private namespaces of this machine")
    unshare = shutil.which("unshare")
    if unshare is None:
        sys.exit("unshare is missing (Debian package util-linux)")
    os.environ[MARK] = "1"
    flags = ["--net", "--mount", "--pid", "--mount-proc", "--kill-child"]
    inside = [sys.executable, "-m", "tests.support.cloud.sandbox", *words]
    os.chdir(CHECKOUT)
    os.execv(unshare, [unshare, *flags, "--", *inside])


def run(*words: object, check: bool = True, timeout: float = 60) -> str:
    """Run a command in the sandbox's own namespaces; returns its standard output."""
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, timeout=timeout, check=False)
    if check and done.returncode:
        raise AssertionError(f"{' '.join(map(str, words))} → {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def private_run(keep: Path | None = None) -> None:
    """An empty ``/run`` (and ``/sys`` of this network namespace); ``keep`` is a folder of the old one that stays."""
    run("mount", "--make-rprivate", "/")
    handle = os.open(keep, os.O_PATH) if keep else -1
    run("mount", "-t", "tmpfs", "-o", "mode=755", "run", "/run")
    for name in ("netns", "openvswitch", "lock", "user"):
        Path("/run", name).mkdir()
    if keep:
        keep.mkdir(parents=True)
        run("mount", "--no-canonicalize", "--bind", f"/proc/{os.getpid()}/fd/{handle}", keep)
        os.close(handle)
    run("mount", "-t", "sysfs", "sysfs", "/sys")


def count_processes(file: Path) -> None:
    """From now on the kernel writes one record per ended process of this process namespace to ``file`` (acct(2))."""
    file.touch()
    if _libc.acct(str(file).encode()):
        code = ctypes.get_errno()
        raise OSError(code, f"acct: {os.strerror(code)}")


def reap(child: int = 0) -> int:
    """Wait for orphans until ``child`` has ended, for ever without one; returns its exit code as a shell would."""
    while True:
        try:
            pid, status = os.wait()
        except ChildProcessError:
            signal.pause()
            continue
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def main(words: Sequence[str]) -> int:
    """Process 1 of the sandbox: prepare it, run ``words``, reap orphans."""
    private_run()
    FOLDER.mkdir()
    FOLDER.chmod(0o755)
    run("ip", "link", "set", "lo", "up")
    # Ctrl-C reaches the child itself; this process only waits for it.
    signal.signal(signal.SIGINT, lambda *_: None)
    with subprocess.Popen(words) as child:
        return reap(child.pid)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
