"""Starts a helper process in a namespace, and waits until it has become a daemon.  Used by ``children``.

The helper inherits nothing of the agent: descriptors, signal mask, control group.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from dvr_agent import securefiles
from dvr_agent.errors import KernelError, ServiceError
from dvr_agent.kernel import netns
from dvr_agent.services.processes import Process, has_ended, newest
from dvr_agent.services.scope import command_in_scope
from dvr_agent.umask import readable_by_all

START_SECONDS = 10.0
PYTHON_IGNORES = (signal.SIGPIPE, signal.SIGXFSZ)
"""Signals that Python ignores and that other programs expect not to be ignored."""
PID_DESCRIPTOR = 200
"""Descriptor of the process id file in a helper."""
PID_FILE = f"/proc/self/fd/{PID_DESCRIPTOR}"
CONFIG = "{config}"
"""Stands for the configuration file in :attr:`Program.check`."""
LOG_TAGS = {"conntrackd": "conntrack-tools"}
"""Program → its name in syslog, if that is another one."""
READY_STEP = 0.005
"""Seconds between checks whether a helper is ready: the kernel has no event for it."""


@dataclass(frozen=True, slots=True)
class Program:
    """The command line and the files of one helper.

    :ivar name: name of the program
    :ivar words: the command line; :data:`PID_FILE` stands for the process id file
    :ivar config: configuration file, an argument of this helper's command line only
    :ivar namespace: network namespace of the helper
    :ivar child_pid_file: where the helper's child has its process id; a stale one keeps the helper from starting
    :ivar check: command line that checks a configuration and says what is wrong; :data:`CONFIG` stands for its file
    :ivar remains: other files of a helper that was killed, which keep the next one from starting
    :ivar is_silent: it writes no process id file, so that :func:`run` does; it is ready once it is a daemon
    """

    name: str
    words: tuple[str, ...]
    config: Path
    pid_file: Path
    namespace: str
    check: tuple[str, ...] = ()
    child_pid_file: Path | None = None
    remains: tuple[Path, ...] = ()
    is_silent: bool = False


def run(program: Program) -> None:
    """Start a helper, and wait until it is a daemon: then it is ready, and its process id is in the file.

    :raises ServiceError: the program is not installed, the helper refuses to start, or there is no such namespace
    """
    path = shutil.which(program.words[0])
    if path is None:
        raise ServiceError(f"{program.name} is not installed")
    scope = command_in_scope(program.name, program.namespace)
    code = _wait(_spawn(program, scope[0], (*scope, *program.words))) if scope else 1
    if code:  # from systemd-run without a scope, or from the helper: a start without a scope shows which
        code = _wait(_spawn(program, path, program.words))
    if code is None:
        raise ServiceError(f"{program.name} did not become a daemon within {START_SECONDS:.0f} s")
    if code:
        raise ServiceError(f"{program.name} refuses to start (exit code {code}): {_reason(program)}")
    if program.is_silent:
        _write_pid_file(program)


def _write_pid_file(program: Program) -> None:
    """Write the process id file of a helper that has just become a daemon, and writes none.

    :raises ServiceError: it has ended, or the file cannot be written
    """
    pid = newest(program.name, program.words[1:])
    if pid is None:
        raise ServiceError(f"{program.name} ended right after its start; {journal(program.name)}")
    try:
        securefiles.replace(program.pid_file, str(pid).encode())
    except OSError as exc:
        raise ServiceError(f"{program.pid_file} cannot be written: {exc.strerror}") from exc


def _new_pid_file(program: Program) -> int:
    """Make an empty process id file; returns a descriptor of it.

    The helper is root, the directory may be another user's: a link in place of the file would have the helper write to
    any file.  So the helper gets a descriptor of the file that was just made, by a name in /proc.

    :raises ServiceError: the file cannot be made
    """
    try:
        return securefiles.create_empty(program.pid_file)
    except OSError as exc:
        raise ServiceError(f"{program.pid_file} cannot be made: {exc.strerror}") from exc


def _spawn(program: Program, path: str, words: tuple[str, ...]) -> int:
    """Start a command in the namespace of a helper; returns its process id.

    :raises ServiceError: the command cannot be started
    """
    nothing = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in range(3)]
    files: list[tuple[object, ...]] = [*nothing, *((os.POSIX_SPAWN_CLOSE, fd) for fd in _inherited())]
    with contextlib.ExitStack() as closing:
        if PID_FILE in program.words:
            pid_file = _new_pid_file(program)
            closing.callback(os.close, pid_file)
            files.append((os.POSIX_SPAWN_DUP2, pid_file, PID_DESCRIPTOR))
        try:
            # neutron-l3-agent, which is no root, reads process id files.
            with netns.entered(program.namespace), readable_by_all():
                # Not by subprocess: the worker thread blocks all signals, and the helper would inherit that.
                return os.posix_spawn(path, words, os.environ, file_actions=files, setsid=True, setsigmask=(),
                                      setsigdef=PYTHON_IGNORES)  # fmt: skip
        except (OSError, KernelError) as exc:
            raise ServiceError(f"{program.name} cannot be started: {exc}") from exc


def _inherited() -> list[int]:
    """Return descriptors that the agent has inherited, and that a helper would keep open for as long as it lives."""
    found = []
    for fd in map(int, os.listdir("/proc/self/fd")):
        with contextlib.suppress(OSError):  # that of the list itself, or closed meanwhile
            if fd > 2 and os.get_inheritable(fd):
                found.append(fd)
    return found


def _wait(pid: int) -> int | None:
    """Wait for a child; returns its exit code, None if it did not end in time and was killed."""
    fd = os.pidfd_open(pid)
    try:
        if has_ended(fd, START_SECONDS):
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        signal.pidfd_send_signal(fd, signal.SIGKILL)
        os.waitpid(pid, 0)
        return None
    finally:
        os.close(fd)


def _reason(program: Program) -> str:
    """Return why the helper refuses its configuration; as a daemon it writes that to syslog only."""
    if not program.check:
        return journal(program.name)
    try:
        # By descriptor, so that the helper checks this very file: its text goes into our log.
        config = securefiles.open_regular(program.config)
    except OSError as exc:
        return f"{program.config} {exc.strerror}"
    name = f"/proc/self/fd/{config}"
    words = tuple(name if word == CONFIG else word for word in program.check)
    try:
        done = subprocess.run(
            words,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=START_SECONDS,
            check=False,
            pass_fds=[config],
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return journal(program.name)
    finally:
        os.close(config)
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return lines[0].replace(name, str(program.config))[:200] if done.returncode and lines else journal(program.name)


def journal(name: str) -> str:
    """Return the command by which the operator finds the log of a helper, as text."""
    return f"journalctl -t {LOG_TAGS.get(name, name)} says why"


def await_ready(name: str, process: Process) -> None:
    """Wait until a helper catches SIGHUP.

    radvd writes its process id file, and becomes a daemon, some milliseconds before it catches SIGHUP; until then the
    signal would end it.

    :raises ServiceError: the helper has ended, or takes too long
    """
    deadline = time.monotonic() + START_SECONDS
    while not process.catches(signal.SIGHUP):
        if process.wait(READY_STEP):
            raise ServiceError(f"{name} (process {process.pid}) has ended; {journal(name)}")
        if time.monotonic() > deadline:
            raise ServiceError(f"{name} (process {process.pid}) is not ready after {START_SECONDS:.0f} s")
