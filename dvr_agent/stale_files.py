"""Finds and removes temporary files of processes that were killed before they renamed them.

Every file of the agent that must be whole is written to ``.<final name>.<16 hex digits>.tmp`` beside it and renamed;
earlier versions called it ``.<final name>.<process id>`` or ``.<final name>.new``.  Only a process that holds the lock
on ``state_path`` (:class:`dvr_agent.lock.AgentLock`) writes, so that under the lock every such file is stale.

Directories may belong to another user (``neutron``), who may put anything into them.  So each is opened component by
component below ``state_path`` without following links, and only regular files with exactly such a name are removed.
Used by the daemon at its start, and by ``dvrctl cleanup``.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from dvr_agent.config import Settings
from dvr_agent.history.file import history_path
from dvr_agent.sources.cached_documents import documents_path

_UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_STATE_FILES = r"fip-linklocal-networks|fip-priorities"
_RADVD_FILES = rf"{_UUID}\.radvd\.conf(?:\.unread)?"
_HISTORY = r"history\.jsonl"
_DOCUMENTS = rf"{_UUID}\.(?:json|refused)|\.complete"
_DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class _Place(NamedTuple):
    """A directory with files that are written to a temporary name and renamed.

    :ivar path: path for messages
    :ivar base: directory that an administrator chose: it is opened even by a link
    :ivar below: components of the path from ``base`` on, none of which may be a link
    :ivar finals: regular expression of the final names
    """

    path: Path
    base: Path
    below: Sequence[str]
    finals: str


def find(settings: Settings) -> list[str]:
    """Return the paths of all stale temporary files, sorted.  Without the lock some may be in use: only a preview."""
    return sorted(path for path, _directory, _name in _each(settings))


def remove(settings: Settings) -> list[str]:
    """Remove all stale temporary files; returns their paths, sorted.  The caller must have the lock."""
    gone = []
    for path, directory, name in _each(settings):
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=directory)
            gone.append(path)
    return sorted(gone)


def _each(settings: Settings) -> Iterator[tuple[str, int, str]]:
    """Yield (path, descriptor of the directory, name) of each stale file; an unreadable directory yields none."""
    state = settings.state_path
    for place in (
        _Place(state, state, (), _STATE_FILES),
        _place(settings.radvd.ra_confs, state, _RADVD_FILES),
        _place(documents_path(str(state), settings.host), state, _DOCUMENTS),
        _place(history_path(state, settings.host).parent, state, _HISTORY),
    ):
        try:
            directory = _open(place)
        except OSError:
            continue
        try:
            pattern = re.compile(rf"\.(?:{place.finals})\.(?:[0-9a-f]{{16}}\.tmp|[0-9]{{1,10}}|new)")
            owners = {0, os.geteuid(), os.fstat(directory).st_uid}
            for name in _names(directory):
                if pattern.fullmatch(name) and _is_file_of(name, directory, owners):
                    yield str(place.path / name), directory, name
        finally:
            os.close(directory)


def _place(path: Path, state: Path, finals: str) -> _Place:
    """Describe a directory, below ``state_path`` or configured elsewhere."""
    if state in path.parents:
        return _Place(path, state, path.relative_to(state).parts, finals)
    return _Place(path, path.parent, (path.name,), finals)


def _open(place: _Place) -> int:
    directory = os.open(place.base, _DIRECTORY_FLAGS)
    for part in place.below:
        try:
            deeper = os.open(part, _DIRECTORY_FLAGS | os.O_NOFOLLOW, dir_fd=directory)
        finally:
            os.close(directory)
        directory = deeper
    return directory


def _names(directory: int) -> list[str]:
    with contextlib.suppress(OSError), os.scandir(directory) as entries:
        return [entry.name for entry in entries]
    return []


def _is_file_of(name: str, directory: int, owners: set[int]) -> bool:
    """Return True for a regular file of one of the owners.

    Temporary files are given to the directory's owner before the rename, and that user could remove any file in it
    anyway.
    """
    try:
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_uid in owners
