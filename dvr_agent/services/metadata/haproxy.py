"""The metadata proxies that neutron-l3-agent started, one haproxy per router: found, and ended when ours serve.

Facts (Neutron 29): process id file ``<external_pids>/<router id>.pid.haproxy``, configuration
``<state_path>/ns-metadata-proxy/<router id>.conf``, which is named in the command line.  haproxy sets SO_REUSEPORT and
binds as root, so our sockets can listen beside it before it goes.  SIGUSR1 is its soft stop: it closes its listening
sockets and ends when its connections have ended.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
from collections.abc import Collection
from pathlib import Path

from dvr_agent.errors import ServiceError

LOG = logging.getLogger(__name__)

SUFFIX = ".pid.haproxy"
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
        return {router_id for router_id in found if self.runs(router_id)} | set(self._ending)

    def end_gently(self, router_id: str) -> None:
        """Let it finish its connections, and take no new ones."""
        self._reap()
        pidfd = self._open(router_id)
        if pidfd is not None:
            _signal(pidfd, signal.SIGUSR1)
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
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            return False
        return Path(words[0]).name == "haproxy" and str(self._confs / f"{router_id}.conf") in words

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


def _signal(pidfd: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, number)


def _ended(pidfd: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(seconds * 1e3))
