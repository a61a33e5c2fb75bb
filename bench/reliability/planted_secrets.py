"""Plants a secret in every option and field that may hold one, and searches all that the programs say and write for it.

Options: those that are secret, by oslo.config or by their names, of oslo.messaging and of Neutron's files that are used
as they are; sections and options that nobody knows; wrong values of them.  Fields: keys that nobody knows
in every object of a document, of the server's answers and casts, and an object in the place of every value; requests to
the admin socket.
"""

from __future__ import annotations

import copy
import io
import json
import logging
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dvr_agent.errors import DocumentError
from dvr_agent.model.parse import parse_document
from tests.support import hostile
from tests.support.daemon_lab import PATIENCE, Daemon, _Connection
from tests.support.daemon_site import RECORDED
from tests.support.scripted_neutron import Server, desk
from tests.support.waiting import wait_for

SECRET = "S3cr3t-w0rd-0f-n0b0dy"
URL = f"rabbit://neutron:{SECRET}@127.0.0.1:1/"
SECRET_NAMES = ("password", "secret", "token", "auth_key", "passphrase")
OF_NEUTRON = {
    "DEFAULT": ("metadata_proxy_shared_secret", "ha_vrrp_auth_password", "auth_key", "x_unknown"),
    "agent": ("x_password",),
    "database": ("connection", "slave_connection"),
    "keystone_authtoken": ("password", "admin_token", "memcache_secret_key"),
    **dict.fromkeys(("nova", "placement", "ironic", "designate"), ("password", "auth_section_password")),
    "cache": ("memcache_password", "redis_password"),
    "ovn": ("ovn_nb_private_key",),
    "x_unknown_section": ("password", "x_unknown"),
}
"""Sections and options of Neutron's files, and of nobody."""
BAD_LINES = (
    f"transport_url = rabbit://neutron:{SECRET}@127.0.0.1:port/",
    f"transport_url = nonsense://neutron:{SECRET}@127.0.0.1/",
    f"transport_url = rabbit:neutron:{SECRET}@127.0.0.1",
    f"transport_url = rabbit://neutron:{SECRET}@[127.0.0.1/",
    f"transport_url = rabbit://neutron:{SECRET}",
    f"transport_url = {SECRET}",
    f"transport_url = ${SECRET}",
    f"transport_url = rabbit://neutron:a$b{SECRET}@127.0.0.1:1/",
    f"transport_url rabbit://neutron:{SECRET}@127.0.0.1/",
    f"x_password {SECRET}",
    f"[{SECRET}",
    f"  {SECRET}",
)
"""Lines at the head of [DEFAULT] that cannot be used."""


def found(base: Path, quick: bool) -> tuple[int, list[str]]:
    """Return how many secrets were planted, and where one can be read; quick: in documents only."""
    planted = list(_documents())
    total, places = planted[0][0], [place for _, place in planted if place]
    for kind in (_of_documents,) if quick else (_of_documents, _of_options, _of_bad_options, _of_messages):
        folder = base / kind.__name__
        folder.mkdir(parents=True)
        for count, place in kind(folder):
            total += count
            places += [place] if place else []
    return total, places


Found = Iterator[tuple[int, str]]
"""(number of further secrets that were planted, where one can be read or an empty text)."""


# Options


def options() -> dict[str, dict[str, object]]:
    """Return sections with a secret in every option that may hold one."""
    from oslo_messaging import opts  # only here: it loads much, and the table of promises is read without it

    sections: dict[str, dict[str, object]] = {
        group: dict.fromkeys(names, SECRET) for group, names in OF_NEUTRON.items()
    }
    for group, table in opts.list_opts():
        names = [opt.dest for opt in table if opt.secret or any(word in opt.dest for word in SECRET_NAMES)]
        sections.setdefault(group or "DEFAULT", {}).update(dict.fromkeys(names, SECRET))
    for section in sections.values():
        section.update({name: URL for name in section if name.endswith(("_url", "connection"))})
    return sections


def _of_options(base: Path) -> Found:
    """Every secret option, with the log at INFO and at DEBUG, in the daemon and in dvrctl."""
    for debug in (False, True):
        secrets = options()
        own = {"host": "compute1", "agent_mode": "dvr_snat", "debug": debug}
        secrets["DEFAULT"] = {**secrets["DEFAULT"], **own}
        daemon = Daemon(base / f"debug-{debug}")
        daemon.configure(**secrets, dvr_agent={"source": "neutron"})
        try:
            daemon.start(ready=False)
            wait_for(lambda one=daemon: one.alive() and one.socket.exists() and one.answering(), "it answers")
            wait_for(lambda one=daemon: "127.0.0.1" in f"{one.out}{one.err}", "it says that the bus is away")
            yield sum(map(len, secrets.values())), ""
            yield from _places(daemon)
            yield from _of_dvrctl(daemon)
        finally:
            _end(daemon)


def _of_bad_options(base: Path) -> Found:
    """Lines that cannot be used: what the daemon and dvrctl say of them."""
    for number, line in enumerate(BAD_LINES):
        daemon = Daemon(base / str(number), DEFAULT={"host": "compute1"})
        text = daemon.config.read_text()
        daemon.config.write_text(text.replace("[DEFAULT]\n", f"[DEFAULT]\n{line}\ndebug = true\n", 1))
        yield 1, ""
        try:
            daemon.start(ready=False)
            wait_for(lambda one=daemon: one.process.poll() is not None or one.socket.exists(), "it has read the file")
        finally:
            _end(daemon)
        if SECRET in f"{daemon.out}{daemon.err}":
            yield 0, f"a secret in what the daemon says of line {number}: {line.replace(SECRET, '***')}"
        yield from _of_dvrctl(daemon)


def _of_dvrctl(daemon: Daemon) -> Found:
    for words in (["-o", "json", "status"], ["-o", "json", "check", "--config"], ["-o", "json", "plan"]):
        command = [sys.executable, "-m", "dvr_agent.cli.ctl", "--config-file", str(daemon.config), *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
        if SECRET in f"{done.stdout}{done.stderr}":
            yield 0, f"a secret in the output of dvrctl {' '.join(words)}"


# Documents


def planted(value: Any) -> Any:
    """Return a value with a secret in two keys of every object that nobody knows."""
    if isinstance(value, dict):
        return {**{key: planted(item) for key, item in value.items()}, "password": SECRET, "x_secret": {"a": SECRET}}
    return [planted(item) for item in value] if isinstance(value, list) else value


def _documents() -> Found:
    """An object with a secret in the place of every value, and half of each such document."""
    count, found = 0, list[str]()
    for place in list(hostile.places(RECORDED)):
        for wrong in ({"password": SECRET}, [{"password": SECRET}], [[{"x": {"password": SECRET}}]]):
            data = json.dumps(hostile.replaced(RECORDED, place, wrong)).encode()
            at = data.index(SECRET.encode())
            count += 1
            texts = [_said_of(whole) for whole in (data, data[: at + 9], data[: at - 2] + b"@" + data[at:])]
            found += [f"a secret in the error of {place}"] if any(SECRET[:8] in text for text in texts) else []
    yield count, ""
    yield from ((0, one) for one in found)


def _said_of(data: bytes) -> str:
    try:
        parse_document(data, "planted.json")
    except DocumentError as exc:
        return "".join(traceback.format_exception(exc))
    return ""


def _of_documents(base: Path) -> Found:
    """A daemon on documents with unknown keys, with bad values, and cut; requests with secrets."""
    daemon = Daemon(base / "site", DEFAULT={"host": "compute1", "agent_mode": "dvr_snat", "debug": True})
    bad = copy.deepcopy(RECORDED)
    bad["router"]["mtu"] = bad["router"]["_interfaces"][0]["mtu"] = -1
    bad["router"]["gw_port"]["fixed_ips"] = {"password": SECRET}
    for name, document in (("good", RECORDED), ("bad", bad)):
        (daemon.routers / f"{name}.json").write_text(json.dumps(planted(document)))
    cut = json.dumps(planted(RECORDED))
    (daemon.routers / "cut.json").write_text(cut[: cut.index(SECRET, 500) + 12])
    try:
        daemon.start()
        wait_for(lambda: not daemon.status()["queue_depth"], "it has looked at all")
        for method, path in (
            ("GET", "/status"),
            ("GET", f"/routers/x?token={SECRET}"),
            ("POST", "/sync"),
            ("PUT", "/"),
        ):
            _request(daemon, method, path)
        yield cut.count(SECRET) * 3 + 8, ""
        yield from _places(daemon)
        yield from _of_dvrctl(daemon)
    finally:
        _end(daemon)


def _request(daemon: Daemon, method: str, path: str) -> None:
    connection = _Connection(daemon.socket)
    try:
        connection.request(method, path, json.dumps({"password": SECRET}), {"Authorization": f"Bearer {SECRET}"})
        connection.getresponse().read()
    finally:
        connection.close()


# Messages of the server


def _of_messages(base: Path) -> Found:
    """Casts and answers with keys that nobody knows, and with objects in the place of values."""
    log = io.StringIO()
    handler, root = logging.StreamHandler(log), logging.getLogger()
    level = root.level
    logging.disable(logging.NOTSET)
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        count = sum(_cast(log)) + _answers(base)
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    yield count, ""
    if SECRET in log.getvalue():
        line = next(line for line in log.getvalue().splitlines() if SECRET in line)
        yield 0, f"a secret in the log about a message: {line.replace(SECRET, '***')[:200]}"
    for path in base.rglob("*"):
        if path.is_file() and SECRET in path.read_text(errors="replace"):
            yield 0, f"a secret of an answer in {path.relative_to(base)}"


def _cast(log: io.StringIO) -> Iterator[int]:
    """Send every cast, right and wrong, with a context that has a token."""
    import oslo_messaging

    from dvr_agent.sources.neutron.wire.endpoint import Endpoint

    endpoint = Endpoint(lambda _notification: None)
    keys = ("routers", "router_id", "payload", "network", "ext_net_id", "port", "x_password")
    wrong: tuple[Any, ...] = (SECRET, {"password": SECRET}, [{"id": {"password": SECRET}}], {"id": {"x": SECRET}})
    arp = {"arp_table": {"subnet_id": {"x": SECRET}, "ip_address": [SECRET], "mac_address": ""}, "router_id": "r"}
    for method in (*hostile.CASTS, "x_unknown"):
        for key in keys:
            for value in (*wrong[key != "x_password" :], arp):
                yield 1
                try:
                    getattr(endpoint, method)({"auth_token": SECRET}, **{key: value})
                except oslo_messaging.ExpectedException as exc:
                    log.write(f"\n{exc.exc_info[1]}")


def _answers(base: Path) -> int:
    """Answer with secrets, and fail with them in the server's traceback; returns how many were planted."""
    server = Server()
    router_id = server.add(1)
    right, count = server.routers[router_id], 0
    with desk(server, base) as source:
        source.sync()
        wrong = [
            planted(right),
            {"password": SECRET},
            [{"password": SECRET}],
            {**right, "gw_port": {"password": SECRET}},
        ]
        for answer in (*([one] for one in wrong), {"password": SECRET}):
            count += 1
            server.answers["sync_routers"] = lambda _args, answer=answer: answer  # type: ignore[misc]
            source.sync()
        server.answers.clear()
        source.sync()
    return count


# Places


def _places(daemon: Daemon) -> Found:
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
    yield from ((0, f"a secret in {where}") for where, text in texts.items() if SECRET in text)


def _end(daemon: Daemon) -> None:
    if daemon.process is not None and daemon.process.poll() is None:
        daemon.process.kill()
        daemon.process.wait()
