"""Writes the host's allocations to Neutron's state files.  Only the reconciler has one: a plan writes nothing."""

from __future__ import annotations

from pathlib import Path

from dvr_agent.reconcile.allocations import Allocations
from dvr_agent.reconcile.statefile import StateFileError, takes_no_files, write_entries


class AllocationFiles:
    """The state files of one host.

    :param state_path: their directory
    """

    def __init__(self, state_path: Path) -> None:
        self._state_path = state_path

    def check(self, allocations: Allocations) -> None:
        """Let the next :meth:`flush` write although nothing changed, if the directory seems to take no files."""
        if takes_no_files(self._state_path):
            for _, allocator in allocations.pools:
                allocator.dirty = True  # the try to write shows, and says, what is wrong

    def flush(self, allocations: Allocations) -> None:
        """Write the files that changed.  The kernel is the truth: a crash before this loses nothing.

        :raises StateFileError: naming each file that cannot be written
        """
        troubles = []
        for name, allocator in allocations.pools:
            if not allocator.dirty:
                continue
            try:
                write_entries(self._state_path / name, allocator.entries())
            except StateFileError as exc:
                troubles.append(str(exc))
            else:
                allocator.dirty = False
        if troubles:
            raise StateFileError("; ".join(troubles))
