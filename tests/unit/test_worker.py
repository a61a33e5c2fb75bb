"""The worker thread and its way back to the hub."""

from __future__ import annotations

import errno
import os

import pytest

from dvr_agent.daemon import eventlet_shim
from dvr_agent.daemon.worker import WorkerThread
from tests.support.waiting import PATIENCE


def test_a_result_arrives_though_the_wake_up_could_not_be_written_at_first(monkeypatch: pytest.MonkeyPatch) -> None:
    errors = [OSError(errno.ENOMEM, "no memory"), OSError(errno.ENOSPC, "no space")]
    write = os.write

    def failing(fd: int, data: bytes) -> int:
        if errors:
            raise errors.pop()
        return write(fd, data)

    worker = WorkerThread()
    worker.start()
    assert worker.call(lambda: 1) == 1
    monkeypatch.setattr(os, "write", failing)
    done = eventlet_shim.GreenEvent()
    eventlet_shim.spawn(lambda: done.set(worker.call(lambda: 7)))
    assert done.wait(PATIENCE) == 7
    assert not errors
