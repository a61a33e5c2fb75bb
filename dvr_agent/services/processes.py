"""Finds processes of other programs in /proc, and opens them by pidfd, which never means another process later.

Used by ``children`` (radvd) and ``metadata.haproxy``.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dvr_agent import securefiles
from dvr_agent.errors import SHORTAGES, ServiceError
from dvr_agent.kernel.namespace_of_process import inode_of_process

PROC = Path("/proc")
PID_FILE_BYTES = 4096
COMMAND_LINE_BYTES = 1 << 17
"""No program that is looked for has longer arguments."""


@dataclass(frozen=True, slots=True)
class Process:
    """One process.

    :ivar fd: its pidfd, readable once the process has ended; the caller of :func:`open_process` closes it
    :ivar network: inode of its network namespace; 0 if the namespace may not be read and has no name
    """

    pid: int
    fd: int
    network: int

    @property
    def ended(self) -> bool:
        """True if the process has ended."""
        return self.wait(0)

    def wait(self, seconds: float) -> bool:
        """Return True if the process ends within so many seconds."""
        return has_ended(self.fd, seconds)

    def catches(self, number: signal.Signals) -> bool:
        """Return True if the process handles a signal, or reads it by signalfd(2); else most signals end it."""
        try:
            lines = (PROC / str(self.pid) / "status").read_text().splitlines()
        except OSError:
            return False
        masks = [int(line.split()[1], 16) for line in lines if line.startswith(("SigCgt:", "SigBlk:"))]
        return any(mask >> (number - 1) & 1 for mask in masks)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; a process that has ended is no error."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.fd, number)

    def close(self) -> None:
        """Close the pidfd."""
        os.close(self.fd)


def has_ended(pidfd: int, seconds: float) -> bool:
    """Return True if the process of a pidfd ends within so many seconds."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(seconds * 1e3))


def open_process(pid: int, program: str, argument: str, namespace: str = "") -> Process | None:
    """Open a process, if it runs this program with this argument in its command line; else None.

    :param program: file name of the program
    :param namespace: name of the network namespace that it is most likely in
    :raises OSError: the process may not be inspected, or there is no descriptor left
    """
    try:
        fd = os.pidfd_open(pid)
    except (ProcessLookupError, OverflowError):
        return None
    except OSError as exc:
        if exc.errno == errno.EINVAL:  # no process id at all
            return None
        raise
    # Read after the pidfd was opened: either this process has the command line, or it has ended.
    words = command_line(pid)
    try:
        if words and Path(words[0]).name == program and argument in words:
            return Process(pid, fd, inode_of_process(pid, namespace))
    except FileNotFoundError:
        pass
    except PermissionError:
        os.close(fd)
        raise
    os.close(fd)
    return None


def open_pid(pid: int) -> Process | None:
    """Open a process by its number alone, whatever it is; None: there is none."""
    try:
        return Process(pid, os.pidfd_open(pid), 0)
    except (OSError, OverflowError):
        return None


def read_pid_file(path: Path) -> int | None:
    """Return the number in a process id file, None if there is none.

    :raises ServiceError: the file cannot be read now, for lack of descriptors or memory
    """
    try:
        return int(securefiles.read(path, PID_FILE_BYTES).data.split()[0])
    except (ValueError, IndexError):
        return None
    except OSError as exc:
        if exc.errno in SHORTAGES:
            raise ServiceError(f"{path} cannot be read: {exc.strerror}") from exc
        return None


def running(program: str) -> Iterator[tuple[int, list[str]]]:
    """Yield (process id, command line) of all processes of a program, from the whole of /proc."""
    for entry in os.listdir(PROC):
        if entry.isdigit():
            words = command_line(int(entry))
            if words and Path(words[0]).name == program:
                yield int(entry), words


def newest(program: str, arguments: Sequence[str]) -> int | None:
    """Return the id of the newest process that runs a program with exactly these arguments, None if there is none.

    Process ids grow, so that few command lines are read where it has just been started.  Its children, which have the
    same command line, do not count.
    """

    def runs(pid: int) -> bool:
        words = command_line(pid)
        return words[1:] == list(arguments) and Path(words[0]).name == program

    for pid in sorted((int(entry) for entry in os.listdir(PROC) if entry.isdigit()), reverse=True):
        if runs(pid):
            parent = parent_of(pid)
            return parent if parent is not None and runs(parent) else pid
    return None


def command_line(pid: int) -> list[str]:
    """Return the command line of a process, empty if it has ended."""
    # Not by pathlib, which takes five times as long: a host may have thousands of processes.
    try:
        fd = os.open(f"{PROC}/{pid}/cmdline", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return []
    try:
        return os.read(fd, COMMAND_LINE_BYTES).decode(errors="replace").split("\0")[:-1]
    except OSError:
        return []
    finally:
        os.close(fd)


def parent_of(pid: int) -> int | None:
    """Return the id of a process's parent, None if the process has ended."""
    try:
        return int((PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, IndexError):
        return None


def children_of(pid: int) -> list[int]:
    """Return the ids of a process's children."""
    try:
        return [int(word) for word in (PROC / str(pid) / "task" / str(pid) / "children").read_text().split()]
    except OSError:
        return []
