"""Keeps the events of the kernel over a restart, in systemd's file descriptor store (ADR 25).

At a stop the sockets go there, and a file without a name that says what was heard by them, and which routers were
trusted (:meth:`dvr_agent.reconcile.drift.DriftJudge.keep`).  The next process takes all of it out again before it reads
anything: after a crash there is nothing, and everything is read.  systemd passes it on at ``systemctl restart``, and
closes it when the unit stays stopped; without systemd nothing is kept.  Used by ``parts`` at the start, and by
``service`` at the end.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from dvr_agent import __version__
from dvr_agent.config import Settings
from dvr_agent.errors import KernelError
from dvr_agent.kernel.drift_events import DriftEvents, Kept
from dvr_agent.kernel.host_filter import HostFilter
from dvr_agent.kernel.host_limits import HostLimits
from dvr_agent.notify import Notifier, passed_descriptors
from dvr_agent.plural import count
from dvr_agent.reconcile.drift import DriftJudge
from dvr_agent.reconcile.kept_trust import KeptRouter
from dvr_agent.state.digest import digest_of

LOG = logging.getLogger(__name__)

PREFIX = "events-"
"""Of the names in the store."""
RECORD = "record"


class KeptEvents(NamedTuple):
    """What an earlier process has kept, in use by this one.

    :ivar routers: what is to be given to :meth:`dvr_agent.reconcile.drift.DriftJudge.trust_kept`
    """

    events: DriftEvents
    routers: Mapping[str, KeptRouter]


def take(settings: Settings, nftables: bool) -> KeptEvents | None:
    """Take what an earlier process has kept out of the store; None if there is nothing of use.

    :param nftables: changes of nf_tables have to be heard
    """
    passed = [(name.removeprefix(PREFIX), one) for name, one in passed_descriptors()]
    if not passed:
        return None
    notifier = Notifier()
    for what, _ in passed:
        notifier.send("FDSTOREREMOVE=1", f"FDNAME={PREFIX}{what}")
    notifier.wait_until_handled()  # else a crash from now on would leave sockets that have been read from
    sockets = dict(passed)
    try:
        record = _read(sockets.pop(RECORD))
        if record["by"] != _identity(settings):
            raise ValueError("version or configuration are others")
        routers = {str(router_id): KeptRouter.from_json(one) for router_id, one in record["routers"].items()}
        events, sockets = Kept(record["events"], sockets), {}
        return KeptEvents(DriftEvents(nftables, events), routers)
    except (KernelError, OSError, KeyError, TypeError, ValueError) as exc:
        LOG.info("events of the kernel were not heard on since the last stop, all routers are read: %s", exc)
        for descriptor in sockets.values():
            os.close(descriptor)
        return None


def leave(settings: Settings, judge: DriftJudge) -> None:
    """Put the events of the kernel in the store, for the next process; they are not read here any more.

    For the worker thread.
    """
    notifier = Notifier()
    kept = judge.keep() if notifier.is_managed else None
    if kept is None:
        return
    record = os.memfd_create("dvr-agent-events")
    try:
        with open(record, "wb", closefd=False) as out:
            out.write(json.dumps({"by": _identity(settings), **kept.record}).encode())
        for what, descriptor in {**kept.descriptors, RECORD: record}.items():
            # FDPOLL: lost events are an error of the socket, which the next process is to see.
            notifier.send("FDSTORE=1", "FDPOLL=0", f"FDNAME={PREFIX}{what}", descriptors=[descriptor])
        notifier.wait_until_handled()
    finally:
        os.close(record)
    LOG.info("a restart need not read %s again", count(len(kept.record["routers"]), "trusted router"))


def _read(descriptor: int) -> dict[str, Any]:
    with open(descriptor, "rb") as file:
        file.seek(0)
        found: dict[str, Any] = json.loads(file.read())
    return found


def _identity(settings: Settings) -> str:
    """Return what must be equal in both processes: what they want of the kernel, and how they read it."""
    return digest_of(__version__, settings, HostFilter.backend, HostLimits.reason)
