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
        """Have the next :meth:`flush` write unchanged files too, if the directory is full or read-only.

        The error of that write tells the operator what is wrong, before an allocation is lost.
        """
        if takes_no_files(self._state_path):
            for _, allocator in allocations.pools:
                allocator.dirty = True

    def flush(self, allocations: Allocations) -> None:
        """Write the files that changed.  A crash before this loses nothing: the kernel has the values.

        :raises StateFileError: naming each file that cannot be written
        """
        faults: list[tuple[str, str]] = []
        for name, allocator in allocations.pools:
            if not allocator.dirty:
                continue
            try:
                write_entries(self._state_path / name, allocator.entries())
            except StateFileError as exc:
                faults += exc.faults
            else:
                allocator.dirty = False
        if faults:
            raise StateFileError(faults)
