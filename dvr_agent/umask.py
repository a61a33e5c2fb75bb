"""Files and directories that other users read, made by a process whose umask keeps everything from them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator


@contextlib.contextmanager
def readable_by_all() -> Iterator[None]:
    """What is made inside the block, also by a process started there, has the modes that most programs expect.

    The umask is the process's: what another thread makes meanwhile has them too.
    """
    before = os.umask(0o022)
    try:
        yield
    finally:
        os.umask(before)
