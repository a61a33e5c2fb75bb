"""Ten faults of which an operator sees the log alone: a line names object and reason.  Secrets stand nowhere."""

from __future__ import annotations

import copy
import json
import re
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from bench.reliability import tracer
from bench.reliability.api import Figure, Options
from bench.reliability.living import VICTIM, VICTIM_ID, LivingHost
from tests.support import lab
from tests.support.daemon_lab import Daemon
from tests.support.daemon_site import RECORDED
from tests.support.waiting import wait_for

SECRET = "S3cr3t-w0rd-0f-n0b0dy"


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
    places = secrets_found(options)
    text = (
        f"{len(chosen)} faults: {len(chosen) - len(silent)} told by object and reason; secrets in {len(places)} places"
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


def secrets_found(options: Options) -> list[str]:
    """Start daemons with secrets in documents and options; returns where one can be read.  Quick: in documents."""
    with tempfile.TemporaryDirectory(prefix="dvr-secrets-") as folder:
        found = list(_of_documents(Path(folder) / "documents"))
        return found if options.quick else [*found, *_of_options(Path(folder) / "options")]


def _of_options(base: Path) -> Iterator[str]:
    """Every option that has a secret, of this agent and of files of Neutron's that it is given."""
    secret = {
        "DEFAULT": {
            "host": "compute1",
            "agent_mode": "dvr_snat",
            "debug": True,
            "transport_url": f"rabbit://neutron:{SECRET}@127.0.0.1:1/",
            "metadata_proxy_shared_secret": SECRET,
            "auth_key": SECRET,
        },
        "dvr_agent": {"source": "neutron"},
        "database": {"connection": f"mysql+pymysql://neutron:{SECRET}@127.0.0.1/neutron"},
        "keystone_authtoken": {"password": SECRET},
        "nova": {"password": SECRET},
        "oslo_messaging_rabbit": {"ssl_key_password": SECRET},
        "oslo_messaging_notifications": {"transport_url": f"rabbit://other:{SECRET}@127.0.0.1:1/"},
    }
    daemon = Daemon(base, **secret)  # type: ignore[arg-type]
    try:
        daemon.start(ready=False)
        wait_for(lambda: daemon.alive() and daemon.socket.exists() and daemon.answering(), "it answers")
        wait_for(lambda: "127.0.0.1" in f"{daemon.out}{daemon.err}", "it says that the bus is away")
        yield from _places(daemon)
    finally:
        _kill(daemon)


def _of_documents(base: Path) -> Iterator[str]:
    """A key that the agent does not know, in every object of a document, and one value that is bad."""
    daemon = Daemon(base, DEFAULT={"host": "compute1", "agent_mode": "dvr_snat", "debug": True})
    bad = copy.deepcopy(RECORDED)
    bad["router"]["mtu"] = bad["router"]["_interfaces"][0]["mtu"] = -1
    for name, document in (("good", RECORDED), ("bad", bad)):
        (daemon.routers / f"{name}.json").write_text(json.dumps(_planted(document)))
    try:
        daemon.start()
        wait_for(lambda: not daemon.status()["queue_depth"], "it has looked at all")
        yield from _places(daemon)
    finally:
        _kill(daemon)


def _planted(value: Any) -> Any:
    if isinstance(value, dict):
        return {**{key: _planted(item) for key, item in value.items()}, "password": SECRET, "x_secret": {"a": SECRET}}
    return [_planted(item) for item in value] if isinstance(value, list) else value


def _places(daemon: Daemon) -> Iterator[str]:
    """Yield where the secret can be read."""
    texts = {"log": f"{daemon.out}{daemon.err}", "status": json.dumps(daemon.status())}
    assert daemon.process is not None
    daemon.process.send_signal(signal.SIGUSR2)
    wait_for(lambda: "Guru Meditation" in f"{daemon.out}{daemon.err}", "the report")
    wait_for(daemon.answering, "it has gone on")
    texts["report"] = f"{daemon.out}{daemon.err}"
    for path in daemon.base.rglob("*"):
        if path.is_file() and path != daemon.config and path.parent != daemon.routers:
            texts[str(path)] = path.read_text(errors="replace")
    yield from (f"a secret in {where}" for where, text in texts.items() if SECRET in text)


def _kill(daemon: Daemon) -> None:
    if daemon.process is not None and daemon.process.poll() is None:
        daemon.process.kill()
        daemon.process.wait()
