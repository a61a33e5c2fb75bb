"""Keeps the events of the kernel over a restart, in systemd's file descriptor store (ADR 25).

At a stop the sockets go there, and a file without a name that says what was heard by them, and which routers were
trusted (:meth:`dvr_agent.reconcile.drift.DriftJudge.keep`).  The next process takes all of it out again before it reads
anything: after a crash there is nothing, and everything is read.  systemd passes it on at ``systemctl restart``, and
closes it when the unit stays stopped; without systemd nothing is kept.  Used by ``parts`` at the start, and by
``service`` at the end.
"""

from __future__ import annotations

import errno
import json
import logging
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from dvr_agent import __version__
from dvr_agent.config import Settings
from dvr_agent.desired.names import is_shared
from dvr_agent.errors import KernelError
from dvr_agent.kernel.drift_events import DriftEvents, Kept
from dvr_agent.kernel.host_filter import HostFilter
from dvr_agent.kernel.host_limits import HostLimits
from dvr_agent.notify import Notifier, passed_descriptors, store_lines, unstore_lines
from dvr_agent.plural import count
from dvr_agent.reconcile.drift import DriftJudge
from dvr_agent.reconcile.kept_trust import KeptRouter
from dvr_agent.state.digest import digest_of

LOG = logging.getLogger(__name__)

PREFIX = "events-"
"""Of the names in the store."""
RECORD = "record"
ALL_READ = "events of the kernel were not heard on since the last stop, all routers are read"
_FILE = os.stat(__file__)
INSTALLED = (__version__, _FILE.st_ino, _FILE.st_ctime_ns)
"""Which code this process runs: another revision of a package has the same version, but new files.  Asked for at the
start, since the files of the next process may be there before this one ends."""
MFD_NOEXEC_SEAL = 8
"""Linux 6.3 (``include/uapi/linux/memfd.h``); not in Python."""


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
    sockets = _passed()
    if not sockets:
        return None
    notifier = Notifier()
    for what in sockets:
        notifier.send(*unstore_lines(PREFIX + what))
    notifier.wait_until_handled()  # else a crash from now on would leave sockets that have been read from
    try:
        if RECORD not in sockets:
            raise ValueError("the record is missing")
        record = _read(sockets.pop(RECORD))
        if record["by"] != _identity(settings):
            raise ValueError("installation or configuration are others")
        routers = {str(router_id): KeptRouter.from_json(one) for router_id, one in record["routers"].items()}
        events, sockets = Kept(record["events"], sockets), {}
        return KeptEvents(DriftEvents(nftables, events, is_shared), routers)
    except (KernelError, OSError, KeyError, TypeError, ValueError) as exc:
        LOG.info("%s: %s", ALL_READ, exc)
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
    record = _new_file()
    try:
        with open(record, "wb", closefd=False) as out:
            out.write(json.dumps({"by": _identity(settings), **kept.record}).encode())
        for what, descriptor in {**kept.descriptors, RECORD: record}.items():
            notifier.send(*store_lines(PREFIX + what), descriptors=[descriptor])
        notifier.wait_until_handled()
    finally:
        os.close(record)
    LOG.info("a restart need not read %s again", count(len(kept.record["routers"]), "trusted router"))


def _passed() -> dict[str, int]:
    """Return the descriptors of an earlier process by what they are for; what is there twice is closed."""
    found: dict[str, int] = {}
    for name, descriptor in passed_descriptors():
        what = name.removeprefix(PREFIX)
        if what in found:
            os.close(descriptor)
        elif what != name:
            found[what] = descriptor
    return found


def _read(descriptor: int) -> dict[str, Any]:
    """Read the record, and empty it: the store may still have it, where the manager did not handle its removal."""
    with open(descriptor, "r+b") as file:
        file.seek(0)
        text = file.read()
        file.truncate(0)
    found: dict[str, Any] = json.loads(text)
    return found


def _new_file() -> int:
    """Return the descriptor of a new file without a name, which cannot be executed (vm.memfd_noexec)."""
    try:
        return os.memfd_create("dvr-agent-events", os.MFD_CLOEXEC | MFD_NOEXEC_SEAL)
    except OSError as exc:
        if exc.errno != errno.EINVAL:
            raise
        return os.memfd_create("dvr-agent-events")  # before Linux 6.3


def _identity(settings: Settings) -> str:
    """Return what must be equal in both processes: what they want of the kernel, and how they read it."""
    return digest_of(INSTALLED, settings, HostFilter.backend, HostLimits.reason)
