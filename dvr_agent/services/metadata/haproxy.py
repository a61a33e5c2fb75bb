"""The metadata proxies that neutron-l3-agent started, one haproxy per router: found, and ended when ours serve.

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
import select
import signal
from collections.abc import Collection
from pathlib import Path

from dvr_agent.desired import names
from dvr_agent.errors import ServiceError
from dvr_agent.kernel import netns
from dvr_agent.services.metadata.listener import namespace_inode
from dvr_agent.services.processes import command_line

LOG = logging.getLogger(__name__)

SUFFIX = ".pid.haproxy"
ROUTER_HEADER = "x-neutron-router-id"
"""Which a router's haproxy adds to requests, and a network's does not."""
END_SECONDS = 5.0


class HaproxyOfReference:
    """
    :param pids: ``external_pids``
    :param confs: directory of haproxy's configuration files
    """

    def __init__(self, pids: Path, confs: Path) -> None:
        self._pids, self._confs = pids, confs
        self._ending: dict[str, int] = {}
        """Router id → pidfd of a haproxy that was told to end when its connections have."""

    def runs(self, router_id: str) -> bool:
        """True while there is one that was not told to end.  Without one this costs a look for a file."""
        pidfd = self._open(router_id)
        if pidfd is None:
            return False
        os.close(pidfd)
        return True

    def routers(self) -> Collection[str]:
        """Ids of the routers that have one."""
        found = {path.name.removesuffix(SUFFIX) for path in self._pids.glob(f"*{SUFFIX}")}
        ids = (one for one in found if names.parse_namespace(names.QROUTER + one) is not None)
        return {router_id for router_id in ids if self.runs(router_id)} | set(self._ending)

    def end_gently(self, router_id: str) -> None:
        """Let it finish its connections, and take no new ones."""
        self._reap()
        pidfd = self._open(router_id)
        if pidfd is None:
            return
        _signal(pidfd, signal.SIGUSR1)
        before = self._ending.pop(router_id, None)
        if before is not None:  # another one of that router's has not ended yet
            os.close(before)
        self._ending[router_id] = pidfd
        self._forget_files(router_id)

    def end(self, router_id: str) -> None:
        """Now: its namespace is about to go.

        :raises ServiceError: it does not end
        """
        for pidfd in (self._ending.pop(router_id, None), self._open(router_id)):
            if pidfd is None:
                continue
            try:
                _signal(pidfd, signal.SIGKILL)
                if not _ended(pidfd, END_SECONDS):
                    raise ServiceError(f"haproxy of router {router_id} does not end")
            finally:
                os.close(pidfd)
            self._forget_files(router_id)

    def _open(self, router_id: str) -> int | None:
        """A descriptor of the process, None if there is none or it is another program's by now."""
        try:
            pid = int((self._pids / (router_id + SUFFIX)).read_text())
            pidfd = os.pidfd_open(pid)
        except (OSError, ValueError, OverflowError):
            return None
        if self._is_it(pid, router_id):  # asked after the descriptor was opened: it cannot become another one now
            return pidfd
        os.close(pidfd)
        return None

    def _is_it(self, pid: int, router_id: str) -> bool:
        words = command_line(pid)
        conf = self._confs / f"{router_id}.conf"
        if not words or Path(words[0]).name != "haproxy" or str(conf) not in words:
            return False
        try:
            network = os.stat(f"/proc/{pid}/ns/net").st_ino
            if network == namespace_inode(names.QROUTER + router_id):
                return True
            # Its namespace may be gone, or made anew; but one that has another's name is another's business.
            return ROUTER_HEADER in conf.read_text().lower() and network not in _named_networks()
        except OSError:
            return False

    def _forget_files(self, router_id: str) -> None:
        for path in (self._pids / (router_id + SUFFIX), self._confs / f"{router_id}.conf"):
            with contextlib.suppress(OSError):
                path.unlink()

    def _reap(self) -> None:
        """Close the descriptors of those that have ended."""
        for router_id, pidfd in list(self._ending.items()):
            if _ended(pidfd, 0):
                os.close(pidfd)
                del self._ending[router_id]


def _named_networks() -> set[int]:
    """Inodes of all namespaces that have a name."""
    found = set()
    for entry in os.scandir(netns.NETNS_DIR):
        with contextlib.suppress(OSError):
            found.add(os.stat(entry.path).st_ino)
    return found


def _signal(pidfd: int, number: signal.Signals) -> None:
    """
    :raises ServiceError: it may not be signalled
    """
    try:
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        pass
    except OSError as exc:
        raise ServiceError(f"a haproxy of neutron-l3-agent cannot be signalled: {exc.strerror}") from exc


def _ended(pidfd: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(seconds * 1e3))
