"""Router advertisements: one radvd for each router that has IPv6 subnets which ask for them.

Files and command line are those of neutron-l3-agent (Neutron 29, neutron/agent/linux/ra.py): either agent adopts what
the other one started.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection
from pathlib import Path

from dvr_agent import securefiles
from dvr_agent.desired import names
from dvr_agent.desired.router_advertisements import radvd_text
from dvr_agent.errors import ServiceError
from dvr_agent.kernel import capability
from dvr_agent.model.router import Router
from dvr_agent.services.children import Children
from dvr_agent.services.files import make_directory, remove_file, write
from dvr_agent.services.launch import CONFIG, PID_FILE, Program

LOG = logging.getLogger(__name__)

NAME = "radvd"
CONF_SUFFIX = ".radvd.conf"
PID_SUFFIX = ".pid.radvd"
MARKER_SUFFIX = ".unread"
CONF_BYTES = 1024 * 1024
CONF_MODE = 0o444


class RadvdService:
    """Implements :class:`dvr_agent.services.api.RouterService`.

    :param confs: ``ra_confs``
    :param pids: ``external_pids``
    :param user: ``radvd_user``; empty or ``root``: radvd stays root
    :param shortest: ``min_rtr_adv_interval``
    :param longest: ``max_rtr_adv_interval``
    :param action: ``check_child_processes_action``
    """

    name = NAME

    def __init__(self, confs: Path, pids: Path, user: str, shortest: int, longest: int, action: str) -> None:
        self._confs, self._pids, self._user = confs, pids, user
        self._shortest, self._longest = shortest, longest
        self._children = Children(NAME, action)

    def plan(self, router: Router) -> list[str]:
        """Return the lines for starting, reloading or ending the router's radvd."""
        text, program = self._text(router), self._program(router.id)
        if text is None:
            return self.plan_remove(router.id)
        if not self._children.find(router.id, program):
            return ["+ radvd"]
        lines = [] if self._is_read(program, text) else ["~ radvd configuration"]
        return [*lines, "- second radvd"] if self._children.has_stale(router.id, program) else lines

    def apply(self, router: Router) -> None:
        """Write the configuration, and start or reload the router's radvd; end it if no subnet asks for it."""
        text, program = self._text(router), self._program(router.id)
        if text is None:
            self.remove(router.id)
            return
        try:
            if not self._is_read(program, text):
                _write(program.config, text)
            if not self._children.find(router.id, program):
                self._check_rights()
                make_directory(program.pid_file.parent)
                self._children.start(router.id, program)
                LOG.info("router %s: radvd started", router.id)
            elif _exists(_marker(program.config)):
                self._children.reload(router.id)
            remove_file(_marker(program.config))
            self._children.end_stale(router.id, program)
        except ServiceError as exc:
            raise ServiceError(f"no router advertisements: {exc}") from exc

    def plan_remove(self, router_id: str) -> list[str]:
        """Return the line for ending the router's radvd, if it has a process or a file."""
        return ["- radvd"] if self._has_traces(router_id) else []

    def remove(self, router_id: str) -> None:
        """End the router's radvd, and remove its files."""
        if self._has_traces(router_id):
            program = self._program(router_id)
            self._children.end(router_id, program)
            remove_file(program.config)
            remove_file(_marker(program.config))
            LOG.info("router %s: radvd ended", router_id)
        self._children.forget(router_id)

    def routers(self) -> Collection[str]:
        """Return ids of routers with files or processes of radvd."""
        markers = _stems(self._confs, CONF_SUFFIX + MARKER_SUFFIX)
        files = _stems(self._confs, CONF_SUFFIX) | markers | _stems(self._pids, PID_SUFFIX)
        seen = {
            Path(word).name.removesuffix(CONF_SUFFIX)
            for word in self._children.processes.arguments
            if self._is_config(word)
        }
        found = files | {one for one in seen if self._has_stale(one)} | set(self._children.keys)
        return {one for one in found if names.parse_namespace(names.QROUTER + one)}

    def fileno(self) -> int:
        """Return a descriptor that is readable when a radvd has died or may be started again."""
        return self._children.fileno()

    def changed(self) -> Collection[str]:
        """Return ids of routers with a dead radvd, which :meth:`apply` starts again."""
        return list(self._children.changed())

    def check(self) -> Collection[str]:
        """Return ids of routers with a stale radvd, or a dead one."""
        self._children.processes.scan()
        return {*self.changed(), *(one for one in self._children.keys if self._has_stale(one))}

    def status(self) -> dict[str, object]:
        """Return how many radvd run, how many died, and the routers for which radvd is started again later."""
        return self._children.status()

    def close(self) -> None:
        """Stop watching; each radvd goes on."""
        self._children.close()

    def _check_rights(self) -> None:
        """Check that radvd can change to the user ``radvd_user``.

        :raises ServiceError: the agent lacks the capabilities for that
        """
        if self._user not in ("", "root") and not capability.has(capability.CAP_SETUID, capability.CAP_SETGID):
            raise ServiceError("radvd_user needs CAP_SETUID and CAP_SETGID, see docs/metadata.md")

    def _text(self, router: Router) -> str | None:
        return radvd_text(router, self._shortest, self._longest)

    def _has_traces(self, router_id: str) -> bool:
        """Return True if the router has a process or a file of radvd."""
        program = self._program(router_id)
        files = (program.config, _marker(program.config), program.pid_file)
        if router_id in self._children or any(_exists(path) for path in files):
            return True
        return self._children.has_stale(router_id, program)

    def _has_stale(self, router_id: str) -> bool:
        return self._children.has_stale(router_id, self._program(router_id))

    def _is_config(self, argument: str) -> bool:
        return argument.endswith(CONF_SUFFIX) and Path(argument).parent == self._confs

    @staticmethod
    def _is_read(program: Program, text: str) -> bool:
        return _content(program.config) == text and not _exists(_marker(program.config))

    def _program(self, router_id: str) -> Program:
        config, pid_file = self._confs / f"{router_id}{CONF_SUFFIX}", self._pids / f"{router_id}{PID_SUFFIX}"
        words = [NAME, "-C", str(config), "-p", PID_FILE, "-m", "syslog"]
        if self._user not in ("", "root"):
            words += ["-u", self._user]
        check = (NAME, "-c", "-C", CONFIG, "-m", "stderr")
        return Program(NAME, tuple(words), config, pid_file, names.QROUTER + router_id, check)


def _content(path: Path) -> str | None:
    try:
        return securefiles.read(path, CONF_BYTES).data.decode(errors="replace")
    except OSError:
        return None


def _exists(path: Path) -> bool:
    """Return True if there is a file, or a link, of that name: a dangling link has to be removed too."""
    return os.path.lexists(path)


def _stems(directory: Path, suffix: str) -> set[str]:
    try:
        return {name.removesuffix(suffix) for name in securefiles.names(directory) if name.endswith(suffix)}
    except OSError as exc:
        LOG.debug("%s: %s", directory, exc.strerror)
        return set()


def _marker(config: Path) -> Path:
    """Return the path of the marker: the file exists from before a configuration is written until radvd has read it."""
    return config.with_name(config.name + MARKER_SUFFIX)


def _write(path: Path, text: str) -> None:
    """Replace a configuration file as a whole; radvd refuses a file that other users may write.

    :raises ServiceError: naming the file
    """
    make_directory(path.parent)
    write(_marker(path), "")
    write(path, text, CONF_MODE)
