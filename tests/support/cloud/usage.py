"""What a program and all its children take: CPU seconds, memory, processes started.

CPU: ``cpu.stat`` of a control group (v2; there even without controllers) that the program starts in, so nothing that a
child or a daemonized helper used is missed.  Processes: the program runs under a group id of its own; every process of
the host that ends leaves an accounting record (acct(2), see ``hostinit``), and those with that group id are counted,
together with the ones that still run.  Memory: resident pages of all of them, looked at every 0.2 s; as RSS, which
counts what forked processes share for each of them, and as PSS, which does not.
"""

from __future__ import annotations

import contextlib
import os
import struct
from pathlib import Path

from tests.support.background import Background
from tests.support.cloud.sandbox import run
from tests.support.waiting import wait_for

GROUP_ID = 4242
"""Nobody's; the program's user stays root, and with it all rights."""
MOUNT = Path("/run/cgroup")
RECORD = struct.Struct("<BBHIIIIIIf8H16s")
"""struct acct_v3 of linux/acct.h: flags, version, terminal, exit code, user, group, …"""
RECORD_GROUP = 5
INTERVAL = 0.2
PAGE = os.sysconf("SC_PAGE_SIZE")


class Usage(Background):
    """Measures one program from its start until ``close``.

    :param accounting: where the kernel writes the host's records
    """

    def __init__(self, accounting: Path) -> None:
        super().__init__()
        if not MOUNT.exists():
            MOUNT.mkdir()
            run("mount", "-t", "cgroup2", "cgroup2", MOUNT)
        self.cgroup = MOUNT / f"dvr-bench-{os.getpid()}-{id(self)}"
        self.cgroup.mkdir()
        self._accounting, self._skip = accounting, accounting.stat().st_size
        self.peak_rss = 0

    def close(self) -> None:
        """Whatever of the program is left is killed."""
        with contextlib.suppress(OSError):
            (self.cgroup / "cgroup.kill").write_text("1")
        wait_for(lambda: "populated 0" in (self.cgroup / "cgroup.events").read_text(), f"{self.cgroup} is empty")
        self.cgroup.rmdir()

    @property
    def wrapper(self) -> list[str]:
        """Words before the program's: they give it the group id."""
        return ["setpriv", "--regid", str(GROUP_ID), "--clear-groups", "--"]

    def cpu_seconds(self) -> float:
        """User and system time so far."""
        first = (self.cgroup / "cpu.stat").read_text().split("\n", 1)[0]
        return float(first.split()[1]) / 1e6

    def processes_started(self) -> int:
        """So far, the program itself not counted."""
        data = self._accounting.read_bytes()[self._skip :]
        ended: int = sum(
            record[RECORD_GROUP] == GROUP_ID for record in RECORD.iter_unpack(data[: len(data) // 64 * 64])
        )
        return ended + len(self._pids()) - 1

    def rss(self) -> int:
        """Bytes now."""
        return sum(_resident(pid) for pid in self._pids())

    def pss(self) -> int:
        """Bytes now; takes a while to ask."""
        return sum(_proportional(pid) for pid in self._pids())

    def work(self) -> None:
        while not self.stop.wait(INTERVAL):
            self.peak_rss = max(self.peak_rss, self.rss())

    def _pids(self) -> list[int]:
        """The program's, without nsenter, which waits beside it."""
        pids = map(int, (self.cgroup / "cgroup.procs").read_text().split())
        return [pid for pid in pids if _group_id(pid) == GROUP_ID]


def _group_id(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("Gid:"):
                return int(line.split()[1])
    return -1


def _resident(pid: int) -> int:
    with contextlib.suppress(OSError, IndexError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
    return 0


def _proportional(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0
