"""Finds and ends the metadata proxies of neutron-l3-agent, one haproxy per router, when our proxy serves.

Facts (Neutron 29): process id file ``<external_pids>/<router id>.pid.haproxy``, configuration
``<state_path>/ns-metadata-proxy/<router id>.conf``, which is named in the command line.  neutron-dhcp-agent has its own
haproxies, in ``qdhcp-`` namespaces, with files in the same places, named after networks or routers.  haproxy sets
SO_REUSEPORT and binds as root, so our sockets can listen beside it before it goes.  SIGUSR1 is its soft stop: it closes
its listening sockets and ends when its connections have ended.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from collections.abc import Collection
from pathlib import Path

from dvr_agent import securefiles
from dvr_agent.desired import names
from dvr_agent.errors import ServiceError
from dvr_agent.kernel import netns
from dvr_agent.services.processes import Process, open_process, read_pid_file

LOG = logging.getLogger(__name__)

SUFFIX = ".pid.haproxy"
ROUTER_HEADER = "x-neutron-router-id"
"""Header that a router's haproxy adds to requests, and a network's haproxy does not."""
END_SECONDS = 5.0
CONF_BYTES = 64 * 1024


class L3AgentHaproxies:
    """Finds and ends haproxy processes of neutron-l3-agent.

    :param pids: ``external_pids``
    :param confs: directory of haproxy's configuration files
    """

    def __init__(self, pids: Path, confs: Path) -> None:
        self._pids, self._confs = pids, confs
        self._ending: dict[str, Process] = {}
        """Router id → a haproxy that ends when its connections have ended (SIGUSR1)."""

    def runs(self, router_id: str) -> bool:
        """Return True if the router has a haproxy that was not signalled to end.  Else this costs one file access."""
        process = self._open(router_id)
        if process is None:
            return False
        process.close()
        return True

    def routers(self) -> Collection[str]:
        """Return ids of the routers that have a haproxy."""
        try:
            files = securefiles.names(self._pids)
        except OSError as exc:
            LOG.debug("%s: %s", self._pids, exc.strerror)
            files = []
        found = {name.removesuffix(SUFFIX) for name in files if name.endswith(SUFFIX)}
        ids = (one for one in found if names.parse_namespace(names.QROUTER + one) is not None)
        return {router_id for router_id in ids if self.runs(router_id)} | set(self._ending)

    def end_gently(self, router_id: str) -> None:
        """Have the router's haproxy finish its connections and accept no new ones."""
        self._reap()
        process = self._open(router_id)
        if process is None:
            return
        _send(process, signal.SIGUSR1)
        before = self._ending.pop(router_id, None)
        if before is not None:  # an earlier haproxy of the router has not ended yet
            before.close()
        self._ending[router_id] = process
        self._forget_files(router_id)

    def end(self, router_id: str) -> None:
        """Kill the router's haproxy: its namespace is about to be removed.

        :raises ServiceError: haproxy does not end
        """
        for process in (self._ending.pop(router_id, None), self._open(router_id)):
            if process is None:
                continue
            try:
                _send(process, signal.SIGKILL)
                if not process.wait(END_SECONDS):
                    raise ServiceError(f"haproxy of router {router_id} does not end")
            finally:
                process.close()
            self._forget_files(router_id)

    def _open(self, router_id: str) -> Process | None:
        """Open the router's haproxy; None if there is none, or its process id is another process's by now."""
        pid, conf = read_pid_file(self._pids / (router_id + SUFFIX)), self._confs / f"{router_id}.conf"
        if pid is None:
            return None
        try:
            process = open_process(pid, "haproxy", str(conf), names.QROUTER + router_id)
        except OSError:
            return None
        if process is None or self._is_routers(process, router_id, conf):
            return process
        process.close()
        return None

    @staticmethod
    def _is_routers(process: Process, router_id: str, conf: Path) -> bool:
        if process.network == netns.inode_of(names.QROUTER + router_id):
            return True
        try:
            # The router's namespace may be gone, or made anew; but a haproxy in any namespace with a name is not ours.
            text = securefiles.read(conf, CONF_BYTES).data.decode(errors="replace")
            return ROUTER_HEADER in text.lower() and process.network not in _named_networks()
        except OSError:
            return False

    def _forget_files(self, router_id: str) -> None:
        for path in (self._pids / (router_id + SUFFIX), self._confs / f"{router_id}.conf"):
            with contextlib.suppress(OSError):
                securefiles.remove(path)

    def _reap(self) -> None:
        """Close the descriptors of haproxies that have ended."""
        for router_id, process in list(self._ending.items()):
            if process.ended:
                process.close()
                del self._ending[router_id]


def _named_networks() -> set[int]:
    """Return the inodes of all namespaces that have a name."""
    found = set()
    for entry in os.scandir(netns.NETNS_DIR):
        with contextlib.suppress(OSError):
            found.add(os.stat(entry.path).st_ino)
    return found


def _send(process: Process, number: signal.Signals) -> None:
    """Signal a process.

    :raises ServiceError: the process may not be signalled
    """
    try:
        process.signal(number)
    except OSError as exc:
        raise ServiceError(f"a haproxy of neutron-l3-agent cannot be signalled: {exc.strerror}") from exc
