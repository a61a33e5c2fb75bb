"""Adopts, starts, reloads, ends and watches helper processes of routers: radvd, keepalived, conntrackd.

A helper makes itself a daemon: it is no child of the agent, and outlives it.  It is ours if three things agree: the
number in its process id file, the configuration file in its command line, and its network namespace.
"""

from __future__ import annotations

import logging
import select
import signal
import time
from collections.abc import Collection
from dataclasses import dataclass

from dvr_agent import backoff, securefiles
from dvr_agent.errors import ServiceError, ServiceFatalError
from dvr_agent.kernel import netns
from dvr_agent.kernel.timerfd import TimerFd
from dvr_agent.services.launch import Program, await_ready, journal, run
from dvr_agent.services.processes import Process, children_of, open_process, parent_of, read_pid_file, running

LOG = logging.getLogger(__name__)

TERM_SECONDS, KILL_SECONDS = 3.0, 3.0
STABLE_SECONDS = 60.0
"""A helper that has run for so long and dies is started again at once."""
PID_FILE_SECONDS, PID_FILE_STEP = 1.0, 0.005
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0


@dataclass(slots=True)
class _Watched:
    program: Program
    process: Process
    since: float


@dataclass(slots=True)
class _DeadHelper:
    """A helper that died.

    :ivar text: message for the operator
    :ivar times: number of deaths in a row, each soon after the start
    :ivar due: time of the next start, by the monotonic clock
    :ivar reported: True once :meth:`Children.changed` has returned this helper
    """

    text: str
    times: int
    due: float
    reported: bool = False


class ProcessScan:
    """Processes of a program on the whole host, by the last scan of /proc.

    :param name: name of the program
    :param flag: argument of all helpers, where the program has other uses with the same configuration file
    """

    def __init__(self, name: str, flag: str = "") -> None:
        self._name, self._flag = name, flag
        self._found: dict[str, set[int]] | None = None
        """Argument → ids of the processes that have it in their command line; None: not scanned yet."""

    def scan(self) -> None:
        """Read the command lines of all processes."""
        self._found = {}
        for pid, arguments in running(self._name):
            for one in arguments if not self._flag or self._flag in arguments else ():
                self._found.setdefault(one, set()).add(pid)

    def forget(self) -> None:
        """Forget the scan: the next call scans again."""
        self._found = None

    @property
    def arguments(self) -> Collection[str]:
        """All arguments of the program's processes."""
        return list(self._known())

    def pids(self, program: Program) -> set[int]:
        """Return ids of the processes that run with a helper's configuration file."""
        return set(self._known().get(str(program.config), ()))

    def _known(self) -> dict[str, set[int]]:
        if self._found is None:
            self.scan()
        return self._found or {}


class Children:
    """Helpers by router id (the ``key`` of all methods), one each.  For one thread.

    :param name: name of the program that all helpers run
    :param action: ``check_child_processes_action``
    :param flag: see :class:`ProcessScan`
    :ivar processes: all processes of the program, watched or not
    """

    def __init__(self, name: str, action: str, flag: str = "") -> None:
        self._name, self._action = name, action
        self._died = 0
        self._watched: dict[str, _Watched] = {}
        self._dead: dict[str, _DeadHelper] = {}
        self.processes = ProcessScan(name, flag)
        self._timer = TimerFd()
        self._poll = select.epoll()
        self._poll.register(self._timer.fileno(), select.EPOLLIN)

    def __contains__(self, key: str) -> bool:
        return key in self._watched

    @property
    def keys(self) -> Collection[str]:
        """Router ids of the helpers that are watched."""
        return list(self._watched)

    @property
    def waiting(self) -> Collection[str]:
        """Router ids of helpers that died and were not started again yet."""
        return [key for key in list(self._dead) if key not in self._watched]

    def find(self, key: str, program: Program) -> bool:
        """Return True if the helper runs in the right namespace; a running helper is watched from now on."""
        watched = self._watched.get(key)
        if watched is None:
            process = _find(program)
            if process is None:
                return False
            self._watch(key, program, process)
            return process.network == netns.inode_of(program.namespace)
        return not watched.process.ended and watched.process.network == netns.inode_of(program.namespace)

    def start(self, key: str, program: Program) -> None:
        """Start a helper, after all processes that run with its configuration file have been ended.

        :raises ServiceError: the helper does not start, or has died too often to be started again now
        """
        self._note_if_dead(key)
        self._set_timer()
        dead = self._dead.get(key)
        if dead is not None and dead.due > time.monotonic():
            raise ServiceError(f"{self._name} died {_often(dead.times)}, it is started again soon")
        self.end(key, program)
        try:
            run(program)
        except ServiceError:
            self.processes.forget()  # a helper that was too slow may run by now
            raise
        process = _await(program)
        if process is None:
            raise ServiceError(f"{self._name} ended right after its start; {journal(self._name)}")
        self._watch(key, program, process)
        if not program.is_silent:
            await_ready(self._name, process)

    def reload(self, key: str) -> None:
        """Have a helper read its configuration file again.

        :raises ServiceError: the helper cannot be signalled
        """
        process = self._watched[key].process
        await_ready(self._name, process)
        _send(self._name, process, signal.SIGHUP)

    def has_stale(self, key: str, program: Program) -> bool:
        """Return True if stale processes run with the configuration file: others than the watched one."""
        stale = self._stale(key, program)
        for process in stale:
            process.close()
        return bool(stale)

    def end_stale(self, key: str, program: Program) -> None:
        """End all processes that run with the configuration file, except the watched one.

        :raises ServiceError: a process does not end
        """
        _end_all(self._name, self._stale(key, program))

    def end(self, key: str, program: Program, number: signal.Signals = signal.SIGTERM) -> None:
        """End the helper, with every process that runs with its configuration file.

        :param number: signal to begin with
        :raises ServiceError: a process does not end, or the process id file or what else it left cannot be removed
        """
        _end_all(self._name, self._all(key, program), number)
        self._unwatch(key)
        for path in filter(None, (program.pid_file, program.child_pid_file, *program.remains)):
            try:
                securefiles.remove(path)
            except OSError as exc:
                raise ServiceError(f"{path}: {exc.strerror}") from exc

    def forget(self, key: str) -> None:
        """Forget the deaths of a helper: its router was removed."""
        self._dead.pop(key, None)

    def fileno(self) -> int:
        """Return a descriptor that is readable when a helper has died or may be started again."""
        return self._poll.fileno()

    def changed(self) -> dict[str, str]:
        """Return key → message, of helpers that died and may be started again now; each death is returned once.

        :raises ServiceFatalError: the agent must end (``check_child_processes_action = exit``)
        """
        self._poll.poll(0)
        for key in list(self._watched):
            self._note_if_dead(key)
        messages = {}
        now = time.monotonic()
        for key, dead in self._dead.items():
            if dead.due <= now and not dead.reported:
                dead.reported = True
                messages[key] = dead.text
        self._set_timer()
        self._died += len(messages)
        if messages and self._action == "exit":
            key, text = next(iter(messages.items()))
            raise ServiceFatalError(f"router {key}: {text}")
        return messages

    def status(self) -> dict[str, object]:
        """Return how many helpers run, how many died, and the routers whose helper is started again later."""
        return {"routers": len(self._watched), "died": self._died, "waiting": sorted(self.waiting)}

    def close(self) -> None:
        """Stop watching; the helpers go on."""
        for key in list(self._watched):
            self._unwatch(key)
        self._poll.close()
        self._timer.close()

    def _note_if_dead(self, key: str) -> None:
        watched = self._watched.get(key)
        if watched is None or not watched.process.ended:
            return
        self._unwatch(key)
        before = self._dead.get(key)
        lived = time.monotonic() - watched.since
        times = 1 if lived >= STABLE_SECONDS or before is None else before.times + 1
        pause = 0.0 if times == 1 else backoff.delay(times - 1, FIRST_WAIT, LONGEST_WAIT)
        text = f"{self._name} (process {watched.process.pid}) has died"
        self._dead[key] = _DeadHelper(text, times, time.monotonic() + pause)
        LOG.warning("router %s: %s died %s, started again in %.1f s", key, self._name, _often(times), pause)

    def _set_timer(self) -> None:
        due = [dead.due for dead in self._dead.values() if not dead.reported]
        self._timer.set(max(min(due) - time.monotonic(), 0.001) if due else None)

    def _watch(self, key: str, program: Program, process: Process) -> None:
        self._unwatch(key)
        self._watched[key] = _Watched(program, process, time.monotonic())
        self._poll.register(process.fd, select.EPOLLIN)

    def _unwatch(self, key: str) -> None:
        watched = self._watched.pop(key, None)
        if watched is not None:
            self._poll.unregister(watched.process.fd)
            watched.process.close()

    def _all(self, key: str, program: Program) -> list[Process]:
        """Open all processes that run with the configuration file."""
        pids = self.processes.pids(program)
        watched = self._watched.get(key)
        child = read_pid_file(program.child_pid_file) if program.child_pid_file is not None else None
        for known in (watched.process.pid if watched else None, read_pid_file(program.pid_file), child):
            if known is not None:
                pids |= {known, *children_of(known)}  # radvd has a child with root's rights
        return _open_all(pids, program)

    def _stale(self, key: str, program: Program) -> list[Process]:
        """Open the stale processes of the last scan and their children: neither the watched one nor its child."""
        pids = self.processes.pids(program)
        watched = self._watched.get(key)
        if watched is not None:
            own = watched.process.pid
            pids = {pid for pid in pids if pid != own and parent_of(pid) != own}
        for pid in list(pids):
            pids.update(children_of(pid))  # of a radvd that had not forked yet when it was scanned
        return _open_all(pids, program)


def _end_all(name: str, processes: list[Process], number: signal.Signals = signal.SIGTERM) -> None:
    """End processes, with SIGKILL if the signal does not suffice, and close their descriptors.

    :raises ServiceError: a process does not end
    """
    try:
        for process in processes:
            _send(name, process, number)
        deadline = time.monotonic() + TERM_SECONDS
        for process in processes:
            if not process.wait(max(deadline - time.monotonic(), 0)):
                _send(name, process, signal.SIGKILL)
        for process in processes:
            if not process.wait(KILL_SECONDS):
                raise ServiceError(f"{name} (process {process.pid}) does not end")
    finally:
        for process in processes:
            process.close()


def _find(program: Program) -> Process | None:
    """Open the process of the process id file, if it is this helper, in any namespace."""
    pid = read_pid_file(program.pid_file)
    return None if pid is None else _open(pid, program)


def _await(program: Program) -> Process | None:
    """Open the process of the process id file; keepalived writes it a moment after it has become a daemon."""
    deadline = time.monotonic() + PID_FILE_SECONDS
    process = _find(program)
    while process is None and time.monotonic() < deadline:
        time.sleep(PID_FILE_STEP)
        process = _find(program)
    return process


def _open(pid: int, program: Program) -> Process | None:
    try:
        return open_process(pid, program.name, str(program.config), program.namespace)
    except OSError as exc:
        raise ServiceError(f"{program.name} (process {pid}) cannot be inspected: {exc.strerror}") from exc


def _open_all(pids: Collection[int], program: Program) -> list[Process]:
    opened = (_open(pid, program) for pid in sorted(pids))
    return [process for process in opened if process is not None]


def _send(name: str, process: Process, number: signal.Signals) -> None:
    try:
        process.signal(number)
    except PermissionError as exc:
        raise ServiceError(f"{name} (process {process.pid}) may not be signalled: {exc.strerror}") from exc


def _often(times: int) -> str:
    return "once" if times == 1 else f"{times} times in a row"
