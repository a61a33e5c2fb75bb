"""Makes system calls of the living daemon fail while it builds, changes and removes a router.

Whatever fails, the daemon lives on; only where its thread cannot leave a namespace it aborts, as it must, and is
started again.  The living router keeps its packets, and without a hand everything is in the end as it would have been;
at no time does an operator read of an unexpected exception.
"""

from __future__ import annotations

import itertools
import signal
from collections.abc import Iterator
from typing import Any, NamedTuple

from bench.reliability import tracer
from bench.reliability.api import Figure, Options
from bench.reliability.crashes import differences
from bench.reliability.living import VICTIM, VICTIM_ID, LivingHost, changed
from tests.support.waiting import wait_for

FAULTS: dict[str, tuple[str, ...]] = {
    "sendto": ("ENOBUFS", "ENOMEM", "EPERM", "EINTR"),
    "sendmsg": ("ENOBUFS", "ENOMEM"),
    "recvfrom": ("ENOBUFS", "ENOMEM", "EBUSY"),
    "recvmsg": ("ENOBUFS", "ENOMEM"),
    "write": ("ENOSPC", "EIO", "EBUSY", "EINTR"),
    "openat": ("EMFILE", "ENOMEM", "EPERM", "ENOENT"),
    "openat2": ("EMFILE", "EPERM", "ENOENT"),
    "mount": ("EPERM", "ENOMEM", "EBUSY"),
    "umount2": ("EPERM", "EBUSY", "ENOENT"),
    "renameat": ("EPERM", "ENOSPC", "EEXIST"),
    "unlink": ("EPERM", "EBUSY", "ENOENT"),
    "setns": ("EPERM", "ENOMEM"),
    "unshare": ("EPERM", "ENOMEM", "ENOSPC"),
    "socket": ("EMFILE", "ENOBUFS", "EPERM"),
    "setsockopt": ("ENOMEM", "EPERM", "EBUSY"),
    "getsockopt": ("ENOMEM", "EPERM"),
    "fsync": ("EIO", "ENOSPC"),
    "newfstatat": ("ENOENT", "EPERM"),
    "getdents64": ("ENOENT", "ENOMEM"),
    "accept4": ("EMFILE", "ENOBUFS"),
}
"""System call → what it fails with."""
NTH = (1, 2, 3, 5, 8, 13, 21, 34)


class Fault(NamedTuple):
    """The nth call of each thread fails, and so do ``more`` after it."""

    call: str
    error: str
    nth: int
    more: int = 0

    @property
    def inject(self) -> str:
        """For strace."""
        last = f"..{self.nth + self.more}" if self.more else ""
        return f"error={self.error}:when={self.nth}{last}"


def measure(options: Options) -> Figure:
    """Inject one fault after the other, each into the next step of the victim's life."""
    if tracer.is_missing():
        return Figure("skipped: strace is missing", True)
    steps = itertools.cycle((("build", VICTIM), ("change", changed()), ("remove", None)))
    done, degraded, wrong = 0, 0, list[str]()
    with LivingHost() as host:
        wanted = _wanted(host)
        for fault in faults(options):
            name, document = next(steps)
            done += 1
            what = f"{name} with {fault.call} {fault.inject}"
            troubled, lines = inject(host, fault, document, wanted[name])
            degraded += troubled
            wrong += [f"{what}: {line}" for line in lines]
        wrong += host.faults_in_log()
        lost, sent = host.lost()
    text = f"{done} faults: {degraded} were told, {len(wrong)} did not heal as promised, {lost} of {sent:,} pings lost"
    return Figure(text, not wrong and not lost, tuple(wrong[:40]))


def faults(options: Options) -> Iterator[Fault]:
    """Yield the faults: each call with each of its errors early, and some later ones."""
    if options.quick:
        yield from (Fault("sendto", "ENOBUFS", 2), Fault("openat", "EMFILE", 1, 3), Fault("umount2", "EBUSY", 1))
        return
    for number, nth in enumerate(NTH):
        for call, errors in FAULTS.items():
            yield Fault(call, errors[number % len(errors)], nth, more=3 * (number % 2))


def inject(host: LivingHost, fault: Fault, document: Any, wanted: dict[str, object]) -> tuple[bool, list[str]]:
    """Return whether the fault was told, and what is wrong after it."""
    before = _troubles(host)
    try:
        with tracer.injected(host.pid(), fault.call, fault.inject):
            host.put(document)
            wait_for(lambda: _ended(host, document) or _gave_up(host, fault), "a first try has ended")
        if _gave_up(host, fault):
            host.daemon.start()
        found = host.settle(document)
    except AssertionError as exc:
        return False, [str(exc), *host.left_overs()]
    return _troubles(host) > before, list(differences(wanted, found))


def _troubles(host: LivingHost) -> int:
    """Number of lines that tell of a fault."""
    lines = f"{host.daemon.out}{host.daemon.err}".splitlines()
    return sum(" ERROR " in line or " WARNING " in line for line in lines)


def _ended(host: LivingHost, document: Any) -> bool:
    """True if the step is done, or the router degraded with a reason, or the host says what is wrong."""
    try:
        if host.settled(document):
            return True
        status = host.daemon.status()
    except OSError:
        return False  # the fault was in the answer
    reasons = [one["reason"] for one in status["routers"] if one["id"] == VICTIM_ID and one["state"] == "degraded"]
    return bool([*filter(None, reasons), *status["troubles"]])


def _gave_up(host: LivingHost, fault: Fault) -> bool:
    """True if the daemon aborted since its thread could not leave a namespace: the service manager starts it again.

    :raises AssertionError: it ended for another reason
    """
    process = host.daemon.process
    if fault.call == "setns" and process is not None and process.poll() == -signal.SIGABRT:
        return True
    host.daemon.alive()
    return False


def _wanted(host: LivingHost) -> dict[str, dict[str, object]]:
    found = {}
    for name, document in (("build", VICTIM), ("change", changed()), ("remove", None)):
        host.put(document)
        found[name] = host.settle(document)
    return found
