"""Helper processes of routers: adopted, started, reloaded, ended, and watched while they run.

A helper makes itself a daemon: it is no child of the agent, and outlives it.  It is ours if three things agree: the
number in its process id file, the configuration file in its command line, and the namespace it is in.
"""

from __future__ import annotations

import logging
import select
import signal
import time
from collections.abc import Collection
from dataclasses import dataclass

from dvr_agent import backoff, securefiles
from dvr_agent.errors import ServiceError
from dvr_agent.kernel import netns
from dvr_agent.kernel.timerfd import TimerFd
from dvr_agent.services.launch import Program, await_ready, journal, run
from dvr_agent.services.processes import Process, children_of, open_process, parent_of, read_pid_file, running

LOG = logging.getLogger(__name__)

TERM_SECONDS, KILL_SECONDS = 3.0, 3.0
STABLE_SECONDS = 60.0
"""One that has lived so long and dies is started again at once."""
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0


@dataclass(slots=True)
class _Watched:
    program: Program
    process: Process
    since: float


@dataclass(slots=True)
class _DeadHelper:
    """A helper that died.

    :ivar text: what happened
    :ivar times: in a row, each soon after its start
    :ivar due: when it may be started again, by the monotonic clock
    :ivar reported: :meth:`Children.changed` has returned it
    """

    text: str
    times: int
    due: float
    reported: bool = False


class ProcessScan:
    """Processes of a program on the whole host, as at the last scan of /proc.

    :param name: of the program
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._found: dict[str, set[int]] | None = None
        """Argument → ids of the processes that have it in their command line; None: there was no scan yet."""

    def scan(self) -> None:
        """Read the command lines of all processes."""
        self._found = {}
        for pid, arguments in running(self._name):
            for one in arguments:
                self._found.setdefault(one, set()).add(pid)

    def forget(self) -> None:
        """Scan again when the next question comes."""
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
    """Helpers by router id, one each.  For one thread.

    :param name: of the program, whatever the router
    :ivar processes: of the program, watched or not
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._watched: dict[str, _Watched] = {}
        self._dead: dict[str, _DeadHelper] = {}
        self.processes = ProcessScan(name)
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
        """Tell whether the helper runs, in the right namespace; one that runs is watched from now on."""
        watched = self._watched.get(key)
        if watched is None:
            process = _find(program)
            if process is None:
                return False
            self._watch(key, program, process)
            return process.network == netns.inode_of(program.namespace)
        return not watched.process.ended and watched.process.network == netns.inode_of(program.namespace)

    def start(self, key: str, program: Program) -> None:
        """Start it; whatever else runs with its configuration file ends before.

        :raises ServiceError: it does not start, or died too often to be started again now
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
            self.processes.forget()  # one that was too slow may have come to life after all
            raise
        process = _find(program)
        if process is None:
            raise ServiceError(f"{self._name} ended right after its start; {journal(self._name)}")
        self._watch(key, program, process)
        await_ready(self._name, process)

    def reload(self, key: str) -> None:
        """Have it read its configuration file again.

        :raises ServiceError: it cannot be signalled
        """
        process = self._watched[key].process
        await_ready(self._name, process)
        _send(self._name, process, signal.SIGHUP)

    def has_stale(self, key: str, program: Program) -> bool:
        """Tell whether stale processes run with the configuration file, beside the watched one or without one."""
        stale = self._stale(key, program)
        for process in stale:
            process.close()
        return bool(stale)

    def end_stale(self, key: str, program: Program) -> None:
        """End all stale processes that run with the configuration file beside the watched one.

        :raises ServiceError: something does not end
        """
        _end_all(self._name, self._stale(key, program))

    def end(self, key: str, program: Program) -> None:
        """End the helper, with every process that runs with its configuration file.

        :raises ServiceError: something does not end
        """
        _end_all(self._name, self._all(key, program))
        self._unwatch(key)
        try:
            securefiles.remove(program.pid_file)
        except OSError as exc:
            raise ServiceError(f"{program.pid_file}: {exc.strerror}") from exc

    def forget(self, key: str) -> None:
        """Forget how often the helper died: its router is gone."""
        self._dead.pop(key, None)

    def fileno(self) -> int:
        """Return a descriptor that is readable when a helper has died or may be started again."""
        return self._poll.fileno()

    def changed(self) -> dict[str, str]:
        """Return key → what happened, of helpers that died; of one that dies often, once it may be started again."""
        self._poll.poll(0)
        for key in list(self._watched):
            self._note_if_dead(key)
        news = {}
        now = time.monotonic()
        for key, dead in self._dead.items():
            if dead.due <= now and not dead.reported:
                dead.reported = True
                news[key] = dead.text
        self._set_timer()
        return news

    def close(self) -> None:
        """Watch no more; the helpers go on."""
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
        """Every process that runs with the configuration file, opened anew."""
        pids = self.processes.pids(program)
        watched = self._watched.get(key)
        for known in (watched.process.pid if watched else None, read_pid_file(program.pid_file)):
            if known is not None:
                pids |= {known, *children_of(known)}  # radvd keeps one that may do what it may not
        return _open_all(pids, program)

    def _stale(self, key: str, program: Program) -> list[Process]:
        """Open the stale processes of the last scan: neither the watched one nor its own helper."""
        pids = self.processes.pids(program)
        watched = self._watched.get(key)
        if watched is not None:
            own = watched.process.pid
            pids = {pid for pid in pids if pid != own and parent_of(pid) != own}
        return _open_all(pids, program)


def _end_all(name: str, processes: list[Process]) -> None:
    """End them, by force if it must be, and close them."""
    try:
        for process in processes:
            _send(name, process, signal.SIGTERM)
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
    """The process of the process id file, if it is this helper, in whatever namespace."""
    pid = read_pid_file(program.pid_file)
    return None if pid is None else _open(pid, program)


def _open(pid: int, program: Program) -> Process | None:
    try:
        return open_process(pid, program.name, str(program.config), program.namespace)
    except OSError as exc:
        raise ServiceError(f"{program.name} (process {pid}) cannot be looked at: {exc.strerror}") from exc


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
