"""Progress of ovs-vswitchd through the configurations in OVSDB (``next_cfg``, ``cur_cfg``); used by ``database``."""

from __future__ import annotations

import time

from dvr_agent.attach.openvswitch.row_index import RowIndex


class ConfigurationProgress:
    """Compares ``cur_cfg``, the number of the newest configuration in force, with ``next_cfg``, the newest written one.

    :param timeout: seconds in which ``cur_cfg`` has to advance
    :ivar requested: number of the newest configuration that this process has written
    """

    def __init__(self, index: RowIndex, timeout: float) -> None:
        self._index, self._timeout = index, timeout
        self.requested = 0
        self._last_done = 0
        self._behind_since: float | None = None
        """Time since which ``cur_cfg`` is behind ``next_cfg`` and has not advanced; None: it is not behind."""

    def done(self) -> int:
        """Return ``cur_cfg``; 0 for an empty database."""
        root = self._index.root()
        return 0 if root is None else int(root.values["cur_cfg"])

    def wanted(self) -> int:
        """Return ``next_cfg`` of any client; 0 for an empty database."""
        root = self._index.root()
        return 0 if root is None else int(root.values["next_cfg"])

    def note(self) -> bool:
        """Record the numbers after a change; returns True if ovs-vswitchd has recovered from a stall.

        ovs-vswitchd is not stalled while ``cur_cfg`` advances, however far ``next_cfg`` is ahead.
        """
        done = self.done()
        behind, recovered = done < self.wanted(), False
        if not behind or done != self._last_done or self._behind_since is None:
            recovered = bool(self.stalled())
            self._behind_since = time.monotonic() if behind else None
        self._last_done = done
        return recovered

    def stalled(self) -> str:
        """Return how long ovs-vswitchd has been stalled, as text for people; empty if it is not stalled."""
        since = self._behind_since
        if since is None or time.monotonic() - since < self._timeout:
            return ""
        return f"ovs-vswitchd has not acted for {time.monotonic() - since:.0f} s; does it run?"
