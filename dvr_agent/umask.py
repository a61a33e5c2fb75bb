"""Sets the umask for files and directories that other users must be able to read."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator


@contextlib.contextmanager
def readable_by_all() -> Iterator[None]:
    """Create files with the usual modes inside the block, also by processes started there.

    The umask belongs to the process: files that another thread creates meanwhile have these modes too.
    """
    before = os.umask(0o022)
    try:
        yield
    finally:
        os.umask(before)
