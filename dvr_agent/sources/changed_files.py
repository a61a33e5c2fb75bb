"""Files of the document directory that notifications have named, and when a missing one counts as deleted.

Bookkeeping only: no file is touched here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Set

from dvr_agent.kernel.inotify import InotifyEvent, Mask
from dvr_agent.sources.directory_watch import FILE_GONE

SETTLE = 0.25
"""Seconds that a name must be missing before its file counts as deleted.  Many editors remove a file and write it
anew, and the removal of the whole directory begins with the files in it: neither must take a router down."""
SETTLE_MAX = 0.7
"""Seconds after which a deletion counts even though further ones keep coming: it must be noticed within a second."""


class ChangedFiles:
    """Names of files, each in one of three states: to read, just created, missing.

    :ivar pending: files to read, oldest notification first
    :ivar created: names that have appeared; most are still being written, which another notification ends
    :ivar missing: files that notifications report as gone → when (monotonic)
    :ivar directory_changed: the directory itself was moved or removed: it must be opened anew
    :ivar overflow: notifications were lost: every file must be checked
    """

    def __init__(self) -> None:
        self.pending: dict[str, None] = {}
        self.created: set[str] = set()
        self.missing: dict[str, float] = {}
        self.directory_changed = False
        self.overflow = False

    def __bool__(self) -> bool:
        return bool(self.directory_changed or self.overflow or self.names())

    def names(self) -> set[str]:
        """Return all names."""
        return self.pending.keys() | self.missing.keys() | self.created

    def add(self, event: InotifyEvent, links: Iterable[str], is_document: Callable[[str], bool]) -> None:
        """Sort the name in a notification into one of the states.

        :param links: files that are symbolic links
        :param is_document: decides by a file name
        """
        name, mask = event.name, event.mask
        if mask & Mask.Q_OVERFLOW:
            self.overflow = True
        elif not name:
            self.directory_changed = True
        elif not is_document(name):
            # A tree of links is switched by renaming the link that the others lead through (Kubernetes' ..data).
            self.pending.update(dict.fromkeys(links))
        elif mask & FILE_GONE:
            self.missing[name] = time.monotonic()
        elif mask & Mask.CREATE:
            self.created.add(name)
        else:
            self.pending[name] = None

    def directory_opened(self) -> None:
        """Note that the directory was opened anew, and all of it is checked where notifications were lost."""
        self.directory_changed = self.overflow = False

    def clear(self) -> None:
        """Forget all names."""
        self.missing.clear()
        self.pending.clear()
        self.created.clear()

    def forget(self, name: str) -> None:
        """Remove a file from those to read."""
        self.pending.pop(name, None)

    def take_missing(self, known: Set[str]) -> list[str]:
        """Return and remove the missing files, if they count as deleted by now; all together.

        :param known: names of all files
        """
        if not self.missing or time.monotonic() < self._due(known):
            return []
        missing, self.missing = self.missing, {}
        return list(missing)

    def seconds_to_wait(self, known: Set[str], limit: float) -> float:
        """Return how long the next poll can wait, ``limit`` at most."""
        if self.pending or self.created or self.overflow or self.directory_changed:
            return 0.0
        return min(limit, max(0.0, self._due(known) - time.monotonic())) if self.missing else limit

    def _due(self, known: Set[str]) -> float:
        first, last = min(self.missing.values()), max(self.missing.values())
        if known <= self.missing.keys():
            # No document is left: most likely the directory itself is about to go, and the files went first.
            return last + SETTLE_MAX
        return min(last + SETTLE, first + SETTLE_MAX)
