"""Ten faults of which an operator sees the log alone: a line names object and reason.  Secrets stand nowhere."""

from __future__ import annotations

import copy
import json
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from bench.reliability import planted_secrets, tracer
from bench.reliability.api import Figure, Options
from bench.reliability.living import VICTIM, VICTIM_ID, LivingHost
from tests.support import lab
from tests.support.daemon_lab import Daemon
from tests.support.waiting import wait_for


class Case(NamedTuple):
    """A fault, and what a shown line must say.

    :ivar begin: makes the fault
    :ivar end: takes it away
    """

    name: str
    subject: str
    reason: str
    begin: Callable[[LivingHost], object]
    end: Callable[[LivingHost], object]


def measure(options: Options) -> Figure:
    """Make one fault after the other, and read."""
    silent = list[str]()
    chosen = [case for case in CASES if not options.quick or case.name == "bad value"]
    with LivingHost(ping=False) as host:
        for case in chosen:
            silent += [] if is_told(host, case) else [f"{case.name}: no line with {case.subject!r} and {case.reason!r}"]
        silent += host.faults_in_log()
    with tempfile.TemporaryDirectory(prefix="dvr-secrets-") as folder:
        planted, places = planted_secrets.found(Path(folder), options.quick)
    told = len(chosen) - len(silent)
    text = (
        f"{len(chosen)} faults: {told} told by object and reason; of {planted:,} secrets that were planted "
        f"{len(places)} can be read somewhere"
    )
    return Figure(text, not silent and not places, (*silent, *places))


def is_told(host: LivingHost, case: Case) -> bool:
    """True if a line of the log of INFO or above names the object and the reason of a fault."""
    said = len(_lines(host.daemon))
    host.put(VICTIM)
    host.settle(VICTIM)

    def told() -> bool:
        shown = [line for line in _lines(host.daemon)[said:] if " DEBUG " not in line]
        return any(re.search(case.subject, line) and re.search(case.reason, line) for line in shown)

    try:
        case.begin(host)
        wait_for(told, case.name, 30)
    except AssertionError:
        return False
    finally:
        case.end(host)
        host.put(None)
        host.settle(None)
    return True


def _lines(daemon: Daemon) -> list[str]:
    return f"{daemon.out}{daemon.err}".splitlines()


def _document(place: tuple[str | int, ...], value: Any) -> Callable[[LivingHost], object]:
    """Write the victim's document with another value at a place."""

    def begin(host: LivingHost) -> None:
        document = copy.deepcopy(VICTIM)
        here: Any = document
        for key in place[:-1]:
            here = here[key]
        here[place[-1]] = value
        host.put(document)

    return begin


def _raw(name: str, data: str) -> Callable[[LivingHost], object]:
    return lambda host: (host.daemon.routers / name).write_text(data)


def _unlink(name: str) -> Callable[[LivingHost], object]:
    return lambda host: (host.daemon.routers / name).unlink()


def _injected(call: str, error: str) -> Callable[[LivingHost], object]:
    """Let a system call fail while the victim is made anew."""

    def begin(host: LivingHost) -> None:
        host.put(None)
        host.settle(None)
        said = len(_lines(host.daemon))
        with tracer.injected(host.pid(), call, f"error={error}:when=1..9"):
            host.put(VICTIM)
            wait_for(lambda: any(" ERROR " in line for line in _lines(host.daemon)[said:]), "an error", 30)

    return begin


def _nothing(_host: LivingHost) -> None:
    pass


def _move(host: LivingHost, back: bool) -> None:
    there, away = host.daemon.routers, host.daemon.routers.with_name("away")
    away.rename(there) if back else there.rename(away)


CASES = (
    Case(
        "bad value",
        r"victim\.json",
        "mac_address is .*expected",
        _document(("router", "_interfaces", 0, "mac_address"), "nonsense"),
        _nothing,
    ),
    Case(
        "half a document", r"half\.json", "bad document", _raw("half.json", '{"router": {"id": '), _unlink("half.json")
    ),
    Case(
        "two documents",
        r"second\.json",
        "another one",
        _raw("second.json", json.dumps(VICTIM)),
        _unlink("second.json"),
    ),
    Case(
        "floating IP",
        "floating_ip_address",
        "expected",
        _document(("router", "_floatingips", 0, "floating_ip_address"), "224.0.0.9"),
        _nothing,
    ),
    Case(
        "directory gone",
        "/routers",
        "cannot be listed.*No such file",
        lambda host: _move(host, False),
        lambda host: _move(host, True),
    ),
    Case(
        "drift",
        VICTIM_ID,
        "drift repaired",
        lambda host: lab.run("ip", "-n", f"qrouter-{VICTIM_ID}", "rule", "flush"),
        _nothing,
    ),
    Case("namespace refused", VICTIM_ID, "EPERM|not permitted", _injected("unshare", "EPERM"), _nothing),
    Case("mount refused", VICTIM_ID, "ENOMEM|Cannot allocate", _injected("mount", "ENOMEM"), _nothing),
    Case(
        "state file refused", "fip-(priorities|linklocal)", "No space left", _injected("renameat", "ENOSPC"), _nothing
    ),
    Case("no descriptor", VICTIM_ID, "EMFILE|Too many open", _injected("socket", "EMFILE"), _nothing),
)
"""In the order in which they are made; each begins and ends with the victim in sync."""
