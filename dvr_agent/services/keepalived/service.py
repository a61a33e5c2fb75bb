"""HA routers by keepalived: one for each router that this host takes part in.

Files, process ids and command lines are those of neutron-l3-agent (Neutron 29, neutron/agent/linux/keepalived.py):
either agent adopts what the other one started.  keepalived outlives the agent; while there is no agent, a fail-over
needs none.  keepalived is told of a new configuration at most once in 1.5 advertisement intervals, so that one reload
is over before the next.
"""

from __future__ import annotations

import logging
import select
import shutil
import signal
import time
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from dvr_agent.desired import names
from dvr_agent.errors import ServiceError
from dvr_agent.kernel import capability
from dvr_agent.kernel.timerfd import TimerFd
from dvr_agent.plural import count
from dvr_agent.services.children import Children
from dvr_agent.services.ha_files import routers_with_files
from dvr_agent.services.keepalived.conf import is_same, keepalived_text
from dvr_agent.services.keepalived.files import RouterFiles
from dvr_agent.services.keepalived.health import PING, script_text
from dvr_agent.services.keepalived.monitors import end_monitor
from dvr_agent.services.keepalived.prompts import Prompts
from dvr_agent.services.launch import CONFIG, Program
from dvr_agent.services.processes import read_pid_file
from dvr_agent.services.vrrp.place import VrrpPlace
from dvr_agent.state.kind import KernelObject
from dvr_agent.state.virtual_router import VirtualRouterState

LOG = logging.getLogger(__name__)

NAME = "keepalived"
RELOAD_INTERVALS = 1.5
"""Advertisement intervals between two reloads of one keepalived."""


@dataclass(slots=True)
class _Lacking:
    """Addresses and routes of the master that the kernel does not have, though keepalived has been told of them.

    :ivar since: when they were first missed
    :ivar tried: keepalived has been made to add them again
    """

    objects: frozenset[KernelObject]
    since: float
    tried: bool = False


@dataclass(slots=True)
class _Reload:
    """When a keepalived was told to read its configuration, and when it is told again (0: it need not be)."""

    last: float = 0.0
    due: float = 0.0


class KeepalivedService:
    """Implements :class:`dvr_agent.services.vrrp.place.VrrpService`.

    :param confs: ``ha_confs_path``
    :param pids: ``external_pids``, where neutron-l3-agent's monitors have their process ids
    :param action: ``check_child_processes_action``
    :param tells_conntrackd: keepalived tells the router's conntrackd of each change of the state
    """

    name = NAME

    def __init__(self, confs: Path, pids: Path, action: str, tells_conntrackd: bool = False) -> None:
        self._confs, self._pids, self._tells_conntrackd = confs, pids, tells_conntrackd
        self._children = Children(NAME, action)
        self._reloads: dict[str, _Reload] = {}
        self._lacking: dict[str, _Lacking] = {}
        self._looks: dict[str, float] = {}
        """Router id → when to look whether its addresses and routes are there."""
        self._namespaces: dict[str, str] = {}
        self._silent: dict[str, str] = {}
        """Router whose gateways are checked → that which did not answer this host when it was last master, or ""."""
        self._timer = TimerFd()
        self._poll = select.epoll()
        self._prompts = Prompts(self._poll)
        for fd in (self._timer.fileno(), self._children.fileno()):
            self._poll.register(fd, select.EPOLLIN)

    def plan(self, place: VrrpPlace) -> list[str]:
        """Return the lines for starting, reloading or ending the router's keepalived."""
        if place.state is None:
            return self.plan_remove(place.router_id)
        files, program, state = self._files(place.router_id), self._program(place), _servable(place.state)
        if not self._children.find(place.router_id, program):
            return [] if not state.may_start else ["+ keepalived"]
        lines = [] if self._is_read(files, state) else ["~ keepalived configuration"]
        if not _has_script(files, state):
            lines.append("~ check of gateways by keepalived")
        if files.is_told_otherwise(place.is_master):
            lines.append("~ state file of keepalived")
        return [*lines, "- second keepalived"] if self._children.has_stale(place.router_id, program) else lines

    def apply(self, place: VrrpPlace) -> None:
        """Write the configuration, and start or reload the router's keepalived."""
        router_id = place.router_id
        if place.state is None:
            self.remove(router_id)
            return
        state = _servable(place.state)
        files, program = self._files(router_id), self._program(place)
        self._namespaces[router_id] = place.namespace
        try:
            told = self._without_lacking(place, files, state)
            self._write(files, told)
            if self._children.find(router_id, program):
                if files.is_unread:
                    self._reload(router_id, files, state)
                self._children.end_stale(router_id, program)
            elif state.may_start:  # else there would be two masters: adverts do not get through yet
                self._children.start(router_id, program)
                files.mark_read()
                self._reloads[router_id] = _Reload(time.monotonic())
                LOG.info("router %s: keepalived started", router_id)
            self._note_state(place, files, state)
            self._note_check(router_id, state)
            end_monitor(self._pids, router_id)
        except ServiceError as exc:
            raise ServiceError(f"no VRRP: {exc}") from exc
        if state.gateways != place.state.gateways:
            raise ServiceError(f"{PING} is not installed: gateways are not checked (ha_vrrp_health_check_interval)")

    def leave(self, place: VrrpPlace) -> bool:
        """End the keepalived of a router that has become another kind of router.

        Where its namespace stays, addresses do: they are the router's own from now on.
        """
        if not self._has_traces(place.router_id):
            return False
        stays = bool(place.namespace) and self._children.find(place.router_id, self._program(place))
        self._end(place.router_id, signal.SIGKILL if stays else signal.SIGTERM)
        return True

    def plan_remove(self, router_id: str) -> list[str]:
        """Return the line for ending the router's keepalived, if it has a process or a file."""
        return ["- keepalived"] if self._has_traces(router_id) else []

    def remove(self, router_id: str) -> None:
        """End the router's keepalived, which yields to another host at once, and remove its files."""
        if self._has_traces(router_id):
            self._end(router_id, signal.SIGTERM)
        self._children.forget(router_id)

    def routers(self) -> Collection[str]:
        """Return ids of routers with files or processes of keepalived."""
        found = routers_with_files(self._confs) | set(self._children.keys)
        for word in self._children.processes.arguments:
            path = Path(word)
            if path.name == RouterFiles.CONFIG_NAME and path.parent.parent == self._confs:
                found.add(path.parent.name)
        return {one for one in found if names.parse_namespace(names.QROUTER + one)}

    def can_tell(self, router_id: str) -> bool:
        """Return True if the router's keepalived, or one that is started now, has the right to run other programs.

        It sets its groups before, which takes CAP_SETGID; the unit gives it none without a drop-in.
        """
        return capability.has(capability.CAP_SETGID, process=read_pid_file(self._files(router_id).child_pid))

    def fileno(self) -> int:
        """Return a descriptor that is readable when :meth:`changed` has something to do."""
        return self._poll.fileno()

    def changed(self) -> Collection[str]:
        """Return ids of routers whose keepalived is dead, or is to be reloaded now."""
        self._poll.poll(0)
        dead = self._children.changed()
        now = time.monotonic()
        looks = [router_id for router_id, due in self._looks.items() if due <= now]
        for router_id in looks:
            del self._looks[router_id]
        due = [router_id for router_id, one in self._reloads.items() if one.due and one.due <= now]
        for router_id in due:
            self._reloads[router_id].due = 0.0
        self._prompts.tell(now)
        self._set_timer()
        return [*dead, *due, *looks]

    def check(self) -> Collection[str]:
        """Return ids of routers with a stale keepalived, or a dead one."""
        self._children.processes.scan()
        stale = [one for one in self._children.keys if self._children.has_stale(one, self._program_of(one))]
        for router_id in self._silent:
            self._note_gateway(router_id)
        return {*self.changed(), *stale}

    def status(self) -> dict[str, object]:
        """Return how many keepalived run, how many died, the routers that wait for a new one, and silent gateways."""
        return {
            **self._children.status(),
            "silent_gateways": {router_id: gateway for router_id, gateway in self._silent.items() if gateway},
        }

    def close(self) -> None:
        """Stop watching; each keepalived goes on."""
        self._children.close()
        self._prompts.close()
        self._poll.close()
        self._timer.close()

    def _reload(self, router_id: str, files: RouterFiles, state: VirtualRouterState) -> None:
        """Have keepalived read its configuration, now or once that is due."""
        reload, now = self._reloads.setdefault(router_id, _Reload()), time.monotonic()
        next_one = reload.last + RELOAD_INTERVALS * state.interval
        if reload.last and now < next_one:
            reload.due = next_one
            self._set_timer()
            return
        self._children.reload(router_id)
        files.mark_read()
        reload.last, reload.due = now, 0.0

    def _without_lacking(self, place: VrrpPlace, files: RouterFiles, state: VirtualRouterState) -> VirtualRouterState:
        """Return what keepalived is to be told: for a moment without what the kernel has been lacking for a while.

        keepalived adds an address or a route when it becomes the master, or when its configuration has a new one.  It
        does not when another program removes one, or when a device is plugged again.
        """
        router_id, lacking, now = place.router_id, place.lacking, time.monotonic()
        known = self._lacking.get(router_id)
        if not lacking:
            self._lacking.pop(router_id, None)
            return state
        rest, patience = state.without(lacking), RELOAD_INTERVALS * state.interval
        if is_same(files.text, self._text(files, rest)):
            return rest if files.is_unread else state
        if files.is_unread:
            self._look_at(router_id, now + patience)
            return state
        if known is None or known.objects != lacking:
            known = self._lacking[router_id] = _Lacking(lacking, now)
        if known.tried:
            return state
        if now < known.since + patience:
            self._look_at(router_id, known.since + patience)
            return state
        LOG.warning(
            "router %s: the master lacks %s: keepalived is made to add them again",
            router_id, count(len(lacking), "address or route", "addresses or routes"),
        )  # fmt: skip
        known.tried = True
        self._look_at(router_id, now + patience)
        return rest

    def _look_at(self, router_id: str, due: float) -> None:
        self._looks[router_id] = due
        self._set_timer()

    def _set_timer(self) -> None:
        due = [*(one.due for one in self._reloads.values() if one.due), *self._looks.values(), *self._prompts.times]
        self._timer.set(max(min(due) - time.monotonic(), 0.001) if due else None)

    def _note_state(self, place: VrrpPlace, files: RouterFiles, state: VirtualRouterState) -> None:
        was_master = files.says_master
        if not files.note_state(place.is_master):
            return
        LOG.info("router %s: this host is %s", place.router_id, "the master" if place.is_master else "a backup")
        if was_master:
            self._prompts.begin(place.router_id, place.namespace, state)
            self._set_timer()

    def _write(self, files: RouterFiles, state: VirtualRouterState) -> None:
        """Write configuration and script, as far as they are not as they should be."""
        is_read = self._is_read(files, state)
        if not _has_script(files, state):  # it must be there before keepalived looks for it
            files.write_script(state.vr_id, script_text(state, files.silent))
        elif not state.gateways and is_read:
            files.remove_script(state.vr_id)
        if not is_read:
            files.write(self._wanted_text(files, state))

    def _note_check(self, router_id: str, state: VirtualRouterState) -> None:
        if not state.gateways:
            self._silent.pop(router_id, None)
            return
        if not self._silent and not capability.has(capability.CAP_SETGID):
            LOG.warning("keepalived logs an error at each check of gateways: no CAP_SETGID, see docs/dataplane.md")
        self._note_gateway(router_id)

    def _note_gateway(self, router_id: str) -> None:
        """Log which gateway does not answer this host, once, and that it answers again."""
        gateway, before = self._files(router_id).silent_gateway, self._silent.get(router_id, "")
        self._silent[router_id] = gateway
        if gateway and gateway != before:
            LOG.warning("router %s: no answer from gateway %s", router_id, gateway)
        elif before and not gateway:
            LOG.info("router %s: gateway %s answers again", router_id, before)

    def _end(self, router_id: str, number: signal.Signals) -> None:
        end_monitor(self._pids, router_id)  # it would note the end as a fail-over
        self._children.end(router_id, self._program_of(router_id), number)
        self._files(router_id).remove()
        for known in (self._reloads, self._lacking, self._looks):
            known.pop(router_id, None)
        self._prompts.forget(router_id)
        self._namespaces.pop(router_id, None)
        self._silent.pop(router_id, None)
        LOG.info("router %s: keepalived ended", router_id)

    def _is_read(self, files: RouterFiles, state: VirtualRouterState) -> bool:
        return self._wanted_text(files, state) == files.text and not files.is_unread and not files.is_open_to_others

    def _wanted_text(self, files: RouterFiles, state: VirtualRouterState) -> str:
        """Return the configuration; where the file's means the same, that of the file: it needs no reload."""
        text = self._text(files, state)
        return files.text if is_same(files.text, text) else text

    def _text(self, files: RouterFiles, state: VirtualRouterState) -> str:
        conntrackd = files.conntrackd_config if self._tells_conntrackd else None
        return keepalived_text(state, files.script(state.vr_id), conntrackd)

    def _has_traces(self, router_id: str) -> bool:
        """Return True if the router has a process or a file of keepalived."""
        return router_id in self._children or self._files(router_id).exist

    def _files(self, router_id: str) -> RouterFiles:
        return RouterFiles(self._confs, router_id)

    def _program_of(self, router_id: str) -> Program:
        namespace = self._namespaces.get(router_id, names.SNAT + router_id)
        return self._program(VrrpPlace(router_id, namespace))

    def _program(self, place: VrrpPlace) -> Program:
        files = self._files(place.router_id)
        words = (NAME, "-P", "-f", str(files.config), "-p", str(files.pid), "-r", str(files.child_pid))
        check = (NAME, "-t", "-f", CONFIG)
        return Program(NAME, words, files.config, files.pid, place.namespace, check, files.child_pid)


def _has_script(files: RouterFiles, state: VirtualRouterState) -> bool:
    return not state.gateways or files.has_script(state.vr_id, script_text(state, files.silent))


def _servable(state: VirtualRouterState) -> VirtualRouterState:
    """Return the virtual router without a check of its gateways if that cannot be made on this host."""
    return replace(state, gateways=()) if state.gateways and shutil.which(PING) is None else state
