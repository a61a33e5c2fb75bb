"""Writes the archive: members one after the other, compressed, so that nothing has to be held in memory or seeked."""

from __future__ import annotations

import io
import os
import re
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

MODE = 0o600
_UNSAFE = re.compile(r"[^A-Za-z0-9._@+-]+")
_NAME_LENGTH = 100


def safe_name(text: str) -> str:
    """Return a text as one component of a path: no separator, no control character, not hidden, not too long."""
    return _UNSAFE.sub("_", text).strip(".")[:_NAME_LENGTH] or "_"


class Archive:
    """A tar archive with one directory, in which all members are; every one is a regular file of mode 0600.

    :param directory: name of that directory
    """

    def __init__(self, stream: IO[bytes], directory: str) -> None:
        # Closed by close(): it lives as long as this object.
        self._tar = tarfile.open(fileobj=stream, mode="w|gz", format=tarfile.PAX_FORMAT)  # noqa: SIM115
        self._directory = directory
        self._names: set[str] = set()

    def add(self, name: str, data: bytes) -> str:
        """Add a member; returns its name, which has a number if there is one of that name already.

        :param name: relative path
        """
        path = "/".join(safe_name(part) for part in name.split("/"))
        stem, dot, suffix = path.rpartition(".")
        number, unique = 1, path
        while unique in self._names:
            number += 1
            unique = f"{stem}-{number}{dot}{suffix}"
        self._names.add(unique)
        member = tarfile.TarInfo(f"{self._directory}/{unique}")
        member.size, member.mode, member.mtime = len(data), MODE, int(time.time())
        member.uname = member.gname = "root"
        self._tar.addfile(member, io.BytesIO(data))
        return unique

    def close(self) -> None:
        """Write the end of the archive."""
        self._tar.close()


@contextmanager
def new_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a new file, for root alone from the beginning; it is removed if the block fails.

    :raises OSError: it cannot be made, or there is a file, or a link, of that name
    """
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, MODE)
    try:
        with os.fdopen(fd, "wb") as stream:
            os.fchmod(fd, MODE)
            yield stream
    except BaseException:
        path.unlink(missing_ok=True)
        raise
