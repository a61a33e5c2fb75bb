"""Keeps this process from being late: real-time priority, memory that is never paged out, no garbage collection."""

from __future__ import annotations

import gc
import logging
import os

from dvr_agent import libc

LOG = logging.getLogger(__name__)

PRIORITY = 1
"""The lowest real-time priority: before all ordinary processes, after all others of that kind."""


def begin() -> None:
    """Take what the system gives; a refusal is logged, since it only matters under load.

    Objects here refer to each other in no circles but those of long-lived ones: reference counts free the rest.
    """
    refused = []
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(PRIORITY))
    except OSError as exc:
        refused.append(f"real-time priority ({exc.strerror})")
    try:
        libc.lock_memory()
    except OSError as exc:
        refused.append(f"locked memory ({exc.strerror})")
    if refused:
        LOG.warning("no %s: advertisements may be late when the host is busy", " and no ".join(refused))
    gc.collect()
    gc.freeze()
    gc.disable()
