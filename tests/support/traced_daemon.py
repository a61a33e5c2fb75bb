"""The daemon with a record of which thread runs which function, and of the files that a cast passes.

Run as ``python -m tests.support.traced_daemon --config-file …``.  When the daemon stops it writes
``<config file>.trace``: JSON with ``threads`` (``file:function`` of dvr_agent → names of the threads that ran it) and
``casts`` (for each cast that led to a reconcile: the files of dvr_agent from its arrival to its event, then from the
event to the reconciler, in order).  Casts are recorded one at a time: a test sends the next one when the router is in
sync again.
"""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path
from types import CodeType, FrameType

import dvr_agent
from dvr_agent.cli import agent

ROOT = str(Path(dvr_agent.__file__).parent) + "/"
ARRIVAL, EVENT, END = ".dispatch", "EventQueue.put", "RouterReconciler.reconcile"
"""Functions: of the RPC endpoint that oslo.messaging calls with a cast; that queues its event; that does its job."""
DAEMON = ("MainThread", "worker")
BESIDE = ("neutron-report", "rpc-report_state", "neutron-fallback", "neutron-files")
"""Threads of the source that run at any time for another reason than a cast."""
UNCOUNTED = (
    *(
        "notify.py",
        "logs.py",
        "daemon/status.py",
        "daemon/admin.py",
        "daemon/admin_listener.py",
        "daemon/http_application.py",
    ),
    "sources/neutron/wire/readiness.py",
)
"""Files that do; the last one hears of every poll of the bus."""


class Trace:
    """Functions that ran, and where.

    :ivar threads: ``file:function`` → names of threads
    :ivar casts: files in order, for each cast
    """

    def __init__(self) -> None:
        self.threads: dict[str, set[str]] = {}
        self.casts: list[list[str]] = []
        self._places: dict[CodeType, str] = {}
        self._cast: dict[str, None] | None = None
        self._queued = False

    def profile(self, frame: FrameType, event: str, _argument: object) -> None:
        """Record a call; for ``sys.setprofile``."""
        if event != "call":
            return
        code = frame.f_code
        place = self._places.get(code)
        if place is None:
            inside = code.co_filename.startswith(ROOT)
            place = self._places[code] = f"{code.co_filename[len(ROOT) :]}:{code.co_qualname}" if inside else ""
        if place:
            thread = threading.current_thread().name
            self.threads.setdefault(place, set()).add(thread)
            self._follow(place, thread)

    def _follow(self, place: str, thread: str) -> None:
        file, _, function = place.partition(":")
        if function.endswith(ARRIVAL) and file.startswith("sources/neutron/"):
            self._cast, self._queued = {}, False
        if self._cast is None or thread in BESIDE or (thread in DAEMON) != self._queued:
            return
        if function == END:
            self.casts.append(list(self._cast))
            self._cast = None
        elif file not in UNCOUNTED:
            self._cast[file] = None
            self._queued = self._queued or function == EVENT

    def write(self, path: Path) -> None:
        """Write the record as JSON."""
        threads = {place: sorted(names) for place, names in sorted(self.threads.items())}
        path.write_text(json.dumps({"threads": threads, "casts": self.casts}, indent=1))


def main() -> int:
    """Run the daemon, and write the record when it ends."""
    trace = Trace()
    threading.setprofile(trace.profile)
    sys.setprofile(trace.profile)
    try:
        return agent.main()
    finally:
        threading.setprofile(None)
        sys.setprofile(None)
        trace.write(Path(sys.argv[-1] + ".trace"))


if __name__ == "__main__":
    sys.exit(main())
