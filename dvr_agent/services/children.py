"""Helper processes of routers: adopted, started, told to read anew, ended, and watched while they run.

A helper makes itself a daemon: it is nobody's child, and outlives the agent.  It is ours if three things agree: the
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
class _Fallen:
    """One that died.

    :ivar text: what happened
    :ivar times: in a row, each soon after its start
    :ivar due: when it may be started again, by the monotonic clock
    :ivar told: whether :meth:`Children.changed` has told of it
    """

    text: str
    times: int
    due: float
    told: bool = False


class Children:
    """By router id, one helper each.  For one thread.

    :param name: of the program, whatever the router
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._watched: dict[str, _Watched] = {}
        self._fallen: dict[str, _Fallen] = {}
        self._seen: dict[str, set[int]] | None = None
        """Word of a command line → processes of the program that had it at the last look; None: none was taken yet."""
        self._timer = TimerFd()
        self._poll = select.epoll()
        self._poll.register(self._timer.fileno(), select.EPOLLIN)

    def __contains__(self, key: str) -> bool:
        return key in self._watched

    @property
    def keys(self) -> Collection[str]:
        return list(self._watched)

    @property
    def waiting(self) -> Collection[str]:
        """Those that died and were not started again yet."""
        return [key for key in list(self._fallen) if key not in self._watched]

    def find(self, key: str, program: Program) -> bool:
        """True if the helper runs, as it should; one that does is watched from now on."""
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
        fallen = self._fallen.get(key)
        if fallen is not None and fallen.due > time.monotonic():
            raise ServiceError(f"{self._name} died {_often(fallen.times)}, it is started again soon")
        self.end(key, program)
        try:
            run(program)
        except ServiceError:
            self._seen = None  # one that was too slow may have come to life after all
            raise
        process = _find(program)
        if process is None:
            raise ServiceError(f"{self._name} ended right after its start; {journal(self._name)}")
        self._watch(key, program, process)
        await_ready(self._name, process)

    def read_anew(self, key: str) -> None:
        """Have it read its configuration file again.

        :raises ServiceError: it cannot be told
        """
        process = self._watched[key].process
        await_ready(self._name, process)
        _send(self._name, process, signal.SIGHUP)

    def look(self) -> None:
        """Look at all processes of the host, for those that nobody watches."""
        self._seen = {}
        for pid, words in running(self._name):
            for word in words:
                self._seen.setdefault(word, set()).add(pid)

    @property
    def words(self) -> Collection[str]:
        """All words of the command lines of the program's processes, at the last look."""
        if self._seen is None:
            self.look()
        return list(self._seen or ())

    def has_strays(self, key: str, program: Program) -> bool:
        """True if others run with the configuration file beside the one that is watched, or without such a one."""
        strays = self._strays(key, program)
        for process in strays:
            process.close()
        return bool(strays)

    def end_strays(self, key: str, program: Program) -> None:
        """End all that run with the configuration file beside the one that is watched.

        :raises ServiceError: something does not end
        """
        self._end(self._strays(key, program))

    def end(self, key: str, program: Program) -> None:
        """End it, with everything that runs with its configuration file.

        :raises ServiceError: something does not end
        """
        self._end(self._all(key, program))
        self._unwatch(key)
        try:
            securefiles.remove(program.pid_file)
        except OSError as exc:
            raise ServiceError(f"{program.pid_file}: {exc.strerror}") from exc

    def forget(self, key: str) -> None:
        """Its router is gone: how often it died does not matter any more."""
        self._fallen.pop(key, None)

    def fileno(self) -> int:
        return self._poll.fileno()

    def changed(self) -> dict[str, str]:
        """Key → what happened, of helpers that have died; of one that dies often once it may be started again."""
        self._poll.poll(0)
        for key in list(self._watched):
            self._note_if_dead(key)
        news = {}
        now = time.monotonic()
        for key, fallen in self._fallen.items():
            if fallen.due <= now and not fallen.told:
                fallen.told = True
                news[key] = fallen.text
        self._set_timer()
        return news

    def close(self) -> None:
        for key in list(self._watched):
            self._unwatch(key)
        self._poll.close()
        self._timer.close()

    def _note_if_dead(self, key: str) -> None:
        watched = self._watched.get(key)
        if watched is None or not watched.process.ended:
            return
        self._unwatch(key)
        before = self._fallen.get(key)
        lived = time.monotonic() - watched.since
        times = 1 if lived >= STABLE_SECONDS or before is None else before.times + 1
        pause = 0.0 if times == 1 else backoff.delay(times - 1, FIRST_WAIT, LONGEST_WAIT)
        text = f"{self._name} (process {watched.process.pid}) has died"
        self._fallen[key] = _Fallen(text, times, time.monotonic() + pause)
        LOG.warning("router %s: %s died %s, started again in %.1f s", key, self._name, _often(times), pause)

    def _set_timer(self) -> None:
        due = [fallen.due for fallen in self._fallen.values() if not fallen.told]
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
        pids = self._seen_with(program)
        watched = self._watched.get(key)
        for known in (watched.process.pid if watched else None, read_pid_file(program.pid_file)):
            if known is not None:
                pids |= {known, *children_of(known)}  # radvd keeps one that may do what it may not
        return _open_all(pids, program)

    def _strays(self, key: str, program: Program) -> list[Process]:
        """Those at the last look that are neither the one that is watched nor its own helper, opened anew."""
        pids = self._seen_with(program)
        watched = self._watched.get(key)
        if watched is not None:
            own = watched.process.pid
            pids = {pid for pid in pids if pid != own and parent_of(pid) != own}
        return _open_all(pids, program)

    def _seen_with(self, program: Program) -> set[int]:
        if self._seen is None:
            self.look()
        return set((self._seen or {}).get(str(program.config), ()))

    def _end(self, processes: list[Process]) -> None:
        """End them, by force if it must be, and close them."""
        try:
            for process in processes:
                _send(self._name, process, signal.SIGTERM)
            deadline = time.monotonic() + TERM_SECONDS
            for process in processes:
                if not process.wait(max(deadline - time.monotonic(), 0)):
                    _send(self._name, process, signal.SIGKILL)
            for process in processes:
                if not process.wait(KILL_SECONDS):
                    raise ServiceError(f"{self._name} (process {process.pid}) does not end")
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
