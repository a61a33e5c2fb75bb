"""Tracked connections of HA routers by conntrackd: one for each router that this host takes part in.

Files, command line and configuration are those of neutron-l3-agent (Neutron 29, neutron/agent/linux/conntrackd.py):
either agent adopts what the other one started.  conntrackd outlives the agent.  keepalived tells it of each change of
the state; the agent does where dvr-vrrp speaks VRRP, which starts no programs, or keepalived lacks the right to.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Collection
from pathlib import Path

from dvr_agent.desired import names
from dvr_agent.errors import ServiceError
from dvr_agent.services.children import Children
from dvr_agent.services.conntrackd.commands import AT_BACKUP, AT_MASTER, NAME, tell
from dvr_agent.services.conntrackd.conf import conntrackd_text, is_same
from dvr_agent.services.conntrackd.files import ConntrackdFiles, wanted_state
from dvr_agent.services.ha_files import CONNTRACKD_CONFIG, routers_with_files
from dvr_agent.services.launch import Program
from dvr_agent.services.vrrp.place import VrrpPlace
from dvr_agent.settings import ConntrackdSettings
from dvr_agent.state.virtual_router import VirtualRouterState

LOG = logging.getLogger(__name__)

DAEMON = "-d"
"""In the command line of the daemon, and of no client."""


class ConntrackdService:
    """Implements :class:`dvr_agent.services.vrrp.place.VrrpService`: it follows VRRP, and does not speak it.

    :param settings: switched off: what runs is ended
    :param confs: ``ha_confs_path``
    :param action: ``check_child_processes_action``
    :param agent_tells: returns True if the agent tells a router's conntrackd of changes of the state, not keepalived
    """

    name = NAME

    def __init__(
        self, settings: ConntrackdSettings, confs: Path, action: str, agent_tells: Callable[[str], bool]
    ) -> None:
        self._settings, self._confs, self._agent_tells = settings, confs, agent_tells
        self._children = Children(NAME, action, DAEMON)
        self._namespaces: dict[str, str] = {}

    def plan(self, place: VrrpPlace) -> list[str]:
        """Return the lines for starting, restarting, telling or ending the router's conntrackd."""
        state = self._wanted(place)
        if state is None:
            return self.plan_remove(place.router_id)
        files, program = self._files(place.router_id), self._program(place)
        if not self._children.find(place.router_id, program):
            return ["+ conntrackd"] if state.may_start else []
        lines = [] if self._is_read(files, state) else ["~ conntrackd configuration"]
        if self._agent_tells(place.router_id) and files.told not in ("", wanted_state(place.is_master)):
            lines.append("~ state of conntrackd")
        return [*lines, "- second conntrackd"] if self._children.has_stale(place.router_id, program) else lines

    def apply(self, place: VrrpPlace) -> None:
        """Write the configuration, and start or restart the router's conntrackd, or tell it of the state."""
        router_id, state = place.router_id, self._wanted(place)
        if state is None:
            self.remove(router_id)
            return
        files, program = self._files(router_id), self._program(place)
        self._namespaces[router_id] = place.namespace
        try:
            text = conntrackd_text(self._settings, state, files)
            if not is_same(files.text, text):
                files.write(text)
            if self._children.find(router_id, program) and not files.is_unread:
                self._follow(place, files)
                self._children.end_stale(router_id, program)
            elif state.may_start:
                self._start(place, files, program)
        except ServiceError as exc:
            raise ServiceError(f"tracked connections are not synchronised: {exc}") from exc

    def leave(self, place: VrrpPlace) -> bool:
        """End the conntrackd of a router that has become another kind of router."""
        self.remove(place.router_id)
        return False

    def plan_remove(self, router_id: str) -> list[str]:
        """Return the line for ending the router's conntrackd, if it has a process or a file."""
        return ["- conntrackd"] if self._has_traces(router_id) else []

    def remove(self, router_id: str) -> None:
        """End the router's conntrackd, and remove its files."""
        if self._has_traces(router_id):
            self._children.end(router_id, self._program_of(router_id))
            self._files(router_id).remove()
            self._namespaces.pop(router_id, None)
            LOG.info("router %s: conntrackd ended", router_id)
        self._children.forget(router_id)

    def routers(self) -> Collection[str]:
        """Return ids of routers with files or processes of conntrackd."""
        found = {one for one in routers_with_files(self._confs) if self._files(one).exist} | set(self._children.keys)
        for word in self._children.processes.arguments if self._settings.enabled else ():
            path = Path(word)
            if path.name == CONNTRACKD_CONFIG and path.parent.parent == self._confs:
                found.add(path.parent.name)
        return {one for one in found if names.parse_namespace(names.QROUTER + one)}

    def fileno(self) -> int:
        """Return a descriptor that is readable when a conntrackd has died or may be started again."""
        return self._children.fileno()

    def changed(self) -> Collection[str]:
        """Return ids of routers with a dead conntrackd, which :meth:`apply` starts again."""
        return list(self._children.changed())

    def check(self) -> Collection[str]:
        """Return ids of routers with a stale conntrackd, or a dead one."""
        if not self._settings.enabled:
            return ()
        self._children.processes.scan()
        stale = [one for one in self._children.keys if self._children.has_stale(one, self._program_of(one))]
        return {*self.changed(), *stale}

    def status(self) -> dict[str, object]:
        """Return how many conntrackd run, how many died, and the routers for which it is started again later."""
        return self._children.status()

    def close(self) -> None:
        """Stop watching; each conntrackd goes on."""
        self._children.close()

    def _wanted(self, place: VrrpPlace) -> VirtualRouterState | None:
        return place.state if self._settings.enabled else None

    def _start(self, place: VrrpPlace, files: ConntrackdFiles, program: Program) -> None:
        """Start conntrackd, also in the place of one that runs: it reads its configuration once."""
        if shutil.which(NAME) is None:
            raise ServiceError(f"{NAME} is not installed (package conntrackd; in RPM distributions conntrack-tools)")
        files.mark_unread()
        self._children.start(place.router_id, program)
        LOG.info("router %s: conntrackd started", place.router_id)
        # What it does not know the others know, and what they do not know it has just read from the kernel.
        tell(files.config, "-n", *(("-B",) if place.is_master else ()))
        if self._agent_tells(place.router_id):
            files.note_told(place.is_master)
        files.mark_read()

    def _follow(self, place: VrrpPlace, files: ConntrackdFiles) -> None:
        """Tell conntrackd of a change of the state, unless keepalived does."""
        if not self._agent_tells(place.router_id) or files.told == wanted_state(place.is_master):
            return
        if files.told:  # else keepalived or neutron-l3-agent has told it so far
            tell(files.config, *(AT_MASTER if place.is_master else AT_BACKUP))
            LOG.info("router %s: conntrackd was told: this host is %s", place.router_id, _word(place.is_master))
        files.note_told(place.is_master)

    def _is_read(self, files: ConntrackdFiles, state: VirtualRouterState) -> bool:
        return is_same(files.text, conntrackd_text(self._settings, state, files)) and not files.is_unread

    def _has_traces(self, router_id: str) -> bool:
        """Return True if the router has a process or a file of conntrackd."""
        return router_id in self._children or self._files(router_id).exist

    def _files(self, router_id: str) -> ConntrackdFiles:
        return ConntrackdFiles(self._confs, router_id)

    def _program_of(self, router_id: str) -> Program:
        namespace = self._namespaces.get(router_id, names.SNAT + router_id)
        return self._program(VrrpPlace(router_id, namespace))

    def _program(self, place: VrrpPlace) -> Program:
        files = self._files(place.router_id)
        words = (NAME, DAEMON, "-C", str(files.config))
        return Program(
            NAME, words, files.config, files.pid, place.namespace, remains=(files.lock, files.control), is_silent=True
        )


def _word(is_master: bool) -> str:
    return "the master" if is_master else "a backup"
