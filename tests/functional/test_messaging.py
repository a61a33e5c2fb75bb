"""The wire to neutron-server, against a real RabbitMQ and recorded calls and casts."""

from __future__ import annotations

import json
import logging
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dvr_agent import config
from dvr_agent.errors import ConfigError
from dvr_agent.sources.neutron.api import (
    AgentUpdated,
    ArpEntry,
    ExternalNetworkGone,
    NetworkUpdated,
    Notification,
    ObjectsPushed,
    Reconnected,
    RemoteError,
    RouterDeleted,
    RouterRemoved,
    RoutersUpdated,
    ServerAwayError,
    ServerError,
    ServerTimeoutError,
)
from dvr_agent.sources.neutron.wire.oslo_bus import OsloBus, open_bus
from dvr_agent.sources.neutron.wire.oslo_options import brokers_of, messaging_options, secrets_of
from tests.support import lab
from tests.support.ctl import run_ctl
from tests.support.rabbit import Rabbit
from tests.support.recorded_documents import DATA
from tests.support.replay_server import NeutronServer
from tests.support.waiting import wait_for

RPC = DATA / "rpc"
STARTUP = {call["method"]: call for call in json.loads((RPC / "startup.json").read_text())}
MESSAGES = [message for step in json.loads((RPC / "casts.json").read_text()) for message in step["messages"]]
HOST = "compute2"
SUBNET = "00000000-0000-0000-0000-000000000000"


def configure(tmp_path: Path, url: str, **options: object) -> Path:
    given = {"host": HOST, "agent_mode": "dvr", "transport_url": url, "rpc_response_timeout": 30, **options}
    path = tmp_path / "neutron.conf"
    path.write_text("[DEFAULT]\n" + "".join(f"{key} = {value}\n" for key, value in given.items()))
    return path


def make_bus(tmp_path: Path, url: str, **options: object) -> OsloBus:
    settings = config.make_settings(config.load(["--config-file", str(configure(tmp_path, url, **options))]))
    return open_bus(settings.neutron, settings.host)


class Ear:
    """Takes notifications; gives them one by one."""

    def __init__(self) -> None:
        self._heard: queue.SimpleQueue[Notification] = queue.SimpleQueue()
        self.hear = self._heard.put

    def next(self) -> Notification:
        return self._heard.get(timeout=30)

    @property
    def silent(self) -> bool:
        return self._heard.empty()


@pytest.fixture
def server(neutron_server: NeutronServer) -> NeutronServer:
    neutron_server.reset(HOST)
    return neutron_server


class Line:
    """A bus that listens, and the server at its other end."""

    def __init__(self, bus: OsloBus, ear: Ear, server: NeutronServer) -> None:
        self.bus, self.ear, self.server = bus, ear, server
        self.plugin = bus.plugin


@pytest.fixture
def line(broker: Rabbit, server: NeutronServer, tmp_path: Path) -> Iterator[Line]:
    ear, bus = Ear(), make_bus(tmp_path, broker.url)
    bus.listen(ear.hear)
    yield Line(bus, ear, server)
    bus.close()


def ask_all(bus: OsloBus) -> None:
    """Every question there is, with the arguments of the recording."""
    plugin = bus.plugin
    plugin.report_state(STARTUP["report_state"]["args"]["agent_state"]["agent_state"])
    plugin.get_service_plugin_list()
    plugin.get_host_ha_router_count()
    plugin.update_all_ha_network_port_statuses()
    plugin.get_router_ids()
    plugin.sync_routers(["r1"])
    plugin.get_ports_by_subnet(SUBNET)
    plugin.get_agent_gateway_port(SUBNET)
    plugin.delete_agent_gateway_port(SUBNET)
    plugin.get_networks([])
    plugin.update_floatingip_statuses(SUBNET, {})


def test_calls_are_those_that_were_recorded(line: Line) -> None:
    since = len(line.server.calls)
    ask_all(line.bus)
    made = {call.method: call for call in line.server.calls[since:]}
    assert made.keys() == STARTUP.keys() - {"no_such_method"}
    for method, call in made.items():
        recorded = STARTUP[method]
        assert (call.topic, call.namespace, call.version) == (recorded["topic"], None, recorded["version"]), method
        if method not in ("report_state", "sync_routers"):
            assert call.args == recorded["args"], method
    assert made["report_state"].args["agent_state"] == STARTUP["report_state"]["args"]["agent_state"]
    assert made["sync_routers"].args == {"host": HOST, "router_ids": ["r1"]}


def test_versioned_objects_are_asked_for_as_recorded_and_pushed(
    broker: Rabbit, server: NeutronServer, tmp_path: Path
) -> None:
    """Shape of the question and of the push: q1_port_forwarding of the recordings."""
    data = {"id": SUBNET, "floatingip_id": SUBNET, "router_id": SUBNET, "external_port_range": "22:22"}
    server.cloud.objects["PortForwarding"] = [data]
    ear, bus = Ear(), make_bus(tmp_path, broker.url)
    bus.listen(ear.hear, [("PortForwarding", "1.3"), ("ConntrackHelper", "1.0")])
    try:
        assert bus.plugin.bulk_pull("PortForwarding", "1.3", {"floatingip_id": [SUBNET]}) == [data]
        call = server.wait_asked("bulk_pull")
        assert (call.topic, call.namespace, call.version) == ("q-plugin", None, "1.1")
        assert call.args == {
            "resource_type": "PortForwarding",
            "version": "1.3",
            "filter_kwargs": {"floatingip_id": [SUBNET]},
        }
        with pytest.raises(RemoteError, match="CallbackNotFound"):
            bus.plugin.bulk_pull("Elephant", "1.0", {})
        server.push("updated", "PortForwarding", data)
        assert ear.next() == ObjectsPushed("PortForwarding", "updated", (data,))
        server.push("deleted", "ConntrackHelper", data)
        assert ear.next() == ObjectsPushed("ConntrackHelper", "deleted", (data,))
    finally:
        bus.close()


def test_calls_come_from_an_administrator_and_each_has_its_own_request_id(line: Line) -> None:
    since = len(line.server.calls)
    line.plugin.get_router_ids()
    line.plugin.get_router_ids()
    first, second = (call.context for call in line.server.calls[since:])
    assert first["is_admin"] is True
    assert "admin" in first["roles"]
    assert first["request_id"].startswith("req-")
    assert first["request_id"] != second["request_id"]


def expected(message: dict[str, Any]) -> Notification:
    """What a recorded message means, spelled out once more."""
    args = message["args"]
    payload = args.get("payload", {})
    match message["method"]:
        case "routers_updated":
            return RoutersUpdated(tuple(args["routers"]))
        case "router_added_to_agent":
            return RoutersUpdated(tuple(payload))
        case "router_deleted":
            return RouterDeleted(args["router_id"])
        case "router_removed_from_agent":
            return RouterRemoved(payload["router_id"])
        case "agent_updated":
            return AgentUpdated(payload["admin_state_up"])
        case "fipnamespace_delete_on_ext_net":
            return ExternalNetworkGone(args["ext_net_id"])
        case "network_update":
            return NetworkUpdated(args["network"]["id"], args["network"]["mtu"])
        case "add_arp_entry" | "del_arp_entry":
            entry = payload["arp_table"]
            present = message["method"] == "add_arp_entry"
            return ArpEntry(
                payload["router_id"], entry["subnet_id"], entry["ip_address"], entry["mac_address"], present
            )
    raise AssertionError(message["method"])


def test_every_recorded_message_becomes_a_notification_in_order(line: Line) -> None:
    """The queues of one host give no order against those of all hosts: each message is waited for."""
    line.plugin.get_router_ids()
    for message in MESSAGES:
        line.server.replay(message)
        assert line.ear.next() == expected(message), message
    assert line.ear.silent
    assert {message["version"] for message in MESSAGES} == {"1.0", "1.1", "1.2", "1.4"}


def test_a_burst_of_casts_keeps_its_order(line: Line) -> None:
    line.plugin.get_router_ids()
    for number in range(100):
        line.server.updated(f"r{number}")
    assert [line.ear.next() for _ in range(100)] == [RoutersUpdated((f"r{number}",)) for number in range(100)]


def test_the_one_call_of_the_server_is_answered_at_once(line: Line) -> None:
    line.plugin.get_router_ids()
    assert line.server.call("router_added_to_agent", payload=["r1", "r2"]) is None
    assert line.ear.next() == RoutersUpdated(("r1", "r2"))


@pytest.mark.parametrize(
    ("method", "args", "error"),
    [
        ("routers_deleted", {"routers": []}, "NoSuchMethod"),
        ("routers_updated", {"routers": 17}, "MalformedError"),
        ("routers_updated", {}, "MalformedError"),
        ("router_deleted", {"router_id": None}, "MalformedError"),
        ("router_removed_from_agent", {"payload": []}, "MalformedError"),
        ("add_arp_entry", {"payload": {"router_id": "r", "arp_table": None}}, "MalformedError"),
        ("network_update", {"network": {"mtu": 1500}}, "MalformedError"),
        ("agent_updated", {"payload": {"admin_state_up": "maybe"}}, "MalformedError"),
    ],
)
def test_messages_that_cannot_be_used_are_a_warning_and_a_right_answer(
    line: Line, method: str, args: dict[str, Any], error: str, caplog: pytest.LogCaptureFixture
) -> None:
    line.plugin.get_router_ids()
    for _ in range(2):
        with pytest.raises(Exception, match=error):
            line.server.call(method, **args)
    line.server.updated("r1")
    assert line.ear.next() == RoutersUpdated(("r1",))
    (warning,) = [one for one in caplog.records if one.name.startswith("dvr_agent") and one.levelno > logging.INFO]
    assert method in warning.getMessage()


def test_an_empty_list_of_routers_is_nobody(line: Line) -> None:
    line.plugin.get_router_ids()
    line.server.cast("routers_updated", routers=[])
    line.server.updated("r1")
    assert line.ear.next() == RoutersUpdated(("r1",))


class Strange(Exception):  # noqa: N818 - as a server's exception may be called
    """An exception of a kind that the agent's side does not know."""


@pytest.mark.parametrize(
    ("exception", "text"),
    [
        (Strange("(1452, 'Cannot add\n or update')"), "Strange: (1452, 'Cannot add or update')"),
        (KeyError("fixed_ips"), "KeyError: 'fixed_ips'"),
        (OSError(13, "no"), "PermissionError: [Errno 13] no"),
        (TimeoutError("later"), "TimeoutError: later"),
    ],
)
def test_an_exception_of_the_server_is_its_text_without_its_traceback(
    line: Line, exception: Exception, text: str
) -> None:
    def fail(_args: object) -> None:
        raise exception

    with line.server.fault("get_router_ids", fail), pytest.raises(RemoteError) as caught:
        line.plugin.get_router_ids()
    assert str(caught.value).startswith(text)
    assert "Traceback" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert line.plugin.get_router_ids() == []


def test_time_outs_grow_by_method_until_answers_are_quick(
    broker: Rabbit, server: NeutronServer, tmp_path: Path
) -> None:
    bus = make_bus(tmp_path, broker.url, rpc_response_timeout=1, rpc_response_max_timeout=3)
    bus.listen(Ear().hear)
    timeouts, release = bus._calls.timeouts, threading.Event()

    def as_at_first() -> bool:
        try:
            return bus.plugin.get_router_ids() == [] and timeouts.of("get_router_ids") == 1
        except ServerError:  # on a busy machine to connect, or to answer, takes longer than this call waits
            return False

    try:
        wait_for(as_at_first, "the first answers may be slow")
        with server.fault("get_router_ids", lambda _args: release.wait(60) and []):
            for grown in (2, 3, 3):
                with pytest.raises(ServerTimeoutError):
                    bus.plugin.get_router_ids()
                assert (timeouts.of("get_router_ids"), timeouts.of("sync_routers")) == (grown, 1)
            release.set()
        wait_for(as_at_first, "it is as before")
    finally:
        release.set()
        bus.close()


def test_calls_in_threads_do_not_wait_for_each_other_and_reports_for_nobody(line: Line) -> None:
    release = threading.Event()
    with line.server.fault("sync_routers", lambda _args: release.wait(60) and []):
        since = len(line.server.calls)
        slow = [threading.Thread(target=line.plugin.sync_routers, args=(["r"],)) for _ in range(5)]
        for thread in slow:
            thread.start()
        line.server.wait_asked("sync_routers", since, number=5)
        assert line.plugin.report_state({}) == "alive"
        assert line.plugin.get_router_ids() == []
        release.set()
        for thread in slow:
            thread.join()


def test_after_a_dead_broker_is_back_casts_arrive_again_and_the_source_is_told(line: Line, broker: Rabbit) -> None:
    line.plugin.get_router_ids()
    broker.kill()
    try:
        wait_for(lambda: not line.bus.status()["connected"])
        for ask in (line.plugin.get_router_ids, lambda: line.plugin.report_state({})):
            with pytest.raises(ServerAwayError):
                ask()
    finally:
        broker.restart()
    assert line.ear.next() == Reconnected()
    line.server.updated("r1")  # at once: the queues are there when it is said
    assert line.ear.next() == RoutersUpdated(("r1",))
    assert line.bus.status()["connected"] is True
    wait_for(lambda: _works(line))


def _works(line: Line) -> bool:
    try:
        return line.plugin.get_router_ids() == [] and line.plugin.report_state({}) == "alive"
    except ServerAwayError:
        return False


def test_with_the_broker_away_from_the_start_calls_end_and_everything_works_when_it_comes(
    broker: Rabbit, server: NeutronServer, tmp_path: Path
) -> None:
    broker.halt()
    ear, bus = Ear(), make_bus(tmp_path, broker.url, rpc_response_timeout=1)
    try:
        bus.listen(ear.hear)
        with pytest.raises(ServerAwayError):
            bus.plugin.get_router_ids()
        assert bus.status()["connected"] is False
        broker.restart()
        line = Line(bus, ear, server)
        wait_for(lambda: _works(line))
        server.updated("r1")
        assert ear.next() == RoutersUpdated(("r1",))
    finally:
        bus.close()


def test_a_server_that_is_not_there_is_noticed_at_once(broker: Rabbit, tmp_path: Path) -> None:
    """Its queues are gone with a broker that died, and for a while only we are back."""
    bus = make_bus(tmp_path, broker.url, rpc_response_timeout=600, control_exchange="elsewhere")
    bus.listen(Ear().hear)
    for _ in range(2):
        with pytest.raises(ServerAwayError, match="no server listens on q-l3-plugin"):
            bus.plugin.get_router_ids()
    bus.close()


@pytest.mark.parametrize(
    ("password", "said"),
    [("", "no server listens on q-l3-plugin"), ("sesame-seed", "ACCESS_REFUSED")],
    ids=["no server", "wrong password"],
)
def test_fetch_ends_in_its_time_and_says_why(broker: Rabbit, tmp_path: Path, password: str, said: str) -> None:
    config = tmp_path / "dvr-agent.conf"
    url = broker.url.replace(f":{broker.password}@", f":{password}@") if password else broker.url
    # Servers of other tests listen on this broker, too.
    state = f"host = h1\nstate_path = {tmp_path}/state\ncontrol_exchange = elsewhere"
    config.write_text(f"[DEFAULT]\nagent_mode = dvr\ntransport_url = {url}\n{state}\n")
    done = run_ctl(config, "fetch", "--timeout", "6", PYTHONWARNINGS="default")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 2
    assert said in done.stderr
    assert "sesame" not in done.stderr
    assert f":{broker.password}@" not in done.stderr


def test_closing_ends_waiting_calls_also_while_the_broker_is_away(tmp_path: Path) -> None:
    bus = make_bus(tmp_path, "rabbit://a:b@127.0.0.1:9/", rpc_response_timeout=600)
    bus.listen(Ear().hear)
    ended = threading.Event()

    def ask() -> None:
        with pytest.raises(ServerAwayError):
            bus.plugin.get_router_ids()
        ended.set()

    threading.Thread(target=ask, daemon=True).start()
    bus.close()
    assert ended.wait(30)


def test_closing_ends_a_call_that_waits_for_its_answer(line: Line) -> None:
    release, failed = threading.Event(), threading.Event()

    def ask() -> None:
        with pytest.raises(ServerAwayError):
            line.plugin.get_router_ids()
        failed.set()

    with line.server.fault("get_router_ids", lambda _args: release.wait(60) and []):
        since = len(line.server.calls)
        threading.Thread(target=ask, daemon=True).start()
        line.server.wait_asked("get_router_ids", since)
        line.bus.close()
        assert failed.wait(30)
        release.set()


TALK = """
import sys, logging
from dvr_agent import config, logs
from dvr_agent.errors import DvrError
from dvr_agent.sources.neutron.wire.oslo_bus import open_bus
conf = config.load(sys.argv[1:])
logs.setup(conf)
try:
    settings = config.make_settings(conf)
    bus = open_bus(settings.neutron, settings.host)
    bus.listen(print)
    print(bus.plugin.get_router_ids(), bus.status())
    bus.close()
except DvrError as exc:
    logging.getLogger().exception("failed: %s", exc)
"""


@pytest.mark.parametrize("trouble", ["none", "login", "away", "url", "driver"])
def test_the_password_is_in_no_log_line_whatever_is_wrong(
    broker: Rabbit, server: NeutronServer, tmp_path: Path, trouble: str
) -> None:
    """With debug on and every library told to say all it can."""
    secret = "s3same%21pass"
    url = broker.url
    if trouble != "none":
        url = url.replace(f":{broker.password}@", f":{secret}@")
    url = {
        "away": url.replace(":5672", ":9"),
        "url": url.replace("rabbit://", ""),
        "driver": url.replace("rabbit:", "carrot:"),
    }.get(trouble, url)
    levels = "amqp=DEBUG,kombu=DEBUG,oslo_messaging=DEBUG,oslo.messaging=DEBUG,oslo_messaging._drivers=5"
    patience = 60 if trouble == "none" else 3  # seconds; where nothing is wrong no call waits so long
    path = configure(tmp_path, url, rpc_response_timeout=patience, debug=True, default_log_levels=levels)
    talk = [sys.executable, "-c", TALK, "--config-file", str(path)]
    done = subprocess.run(talk, capture_output=True, text=True, timeout=120, check=True)
    said = done.stdout + done.stderr
    assert ("'connected': True" in said) is (trouble == "none")
    assert "oslo" in said or trouble in ("url", "driver")
    for word in (secret, "s3same!pass", f"neutron:{broker.password}"):
        assert word not in said


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("", "is not set"),
        ("//neutron:sesame@broker:5672", "expected rabbit://"),
        ("neutron:sesame@broker:5672", "no driver 'neutron'"),
        ("carrot://neutron:sesame@broker/", "carrot"),
        ("rabbit://neutron:sesame@broker:notaport/", "cannot be used"),
    ],
)
def test_a_transport_url_that_cannot_be_used_is_told_without_it(tmp_path: Path, url: str, word: str) -> None:
    with pytest.raises(ConfigError, match=word) as caught:
        make_bus(tmp_path, url)
    assert "sesame" not in str(caught.value)
    assert "transport_url" in str(caught.value)


def test_an_option_of_the_library_that_is_wrong_is_named_with_its_file(tmp_path: Path) -> None:
    base = configure(tmp_path, "rabbit://neutron:sesame@broker/")
    extra = tmp_path / "rabbit.conf"
    extra.write_text("[oslo_messaging_rabbit]\nrabbit_quorum_queue = perhaps\n")
    with pytest.raises(ConfigError) as caught:
        messaging_options(["--config-file", str(base), "--config-file", str(extra)])
    assert str(caught.value) == (
        f"{extra}: [oslo_messaging_rabbit] rabbit_quorum_queue = 'perhaps': expected true or false"
    )


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("rabbit://neutron:sesame@broker:5671/v", "broker:5671"),
        ("rabbit://neutron:sesame@a:1,neutron:open@[2001:db8::1]:2/", "a:1, [2001:db8::1]:2"),
        ("rabbit://neutron:sesame@broker/", "broker:5672"),
        ("rabbit://neutron:ses@me@broker:5672/", "broker:5672"),
    ],
)
def test_brokers_are_named_without_user_and_password(tmp_path: Path, url: str, named: str) -> None:
    options = messaging_options(["--config-file", str(configure(tmp_path, url))])
    assert brokers_of(options) == named


def test_a_broker_that_is_away_is_named(tmp_path: Path, host: lab.Host) -> None:
    bus = make_bus(tmp_path, "rabbit://neutron:sesame@127.0.0.1:5679/", rpc_response_timeout=1)
    try:
        with pytest.raises(ServerError, match=r"the message bus at 127\.0\.0\.1:5679") as caught:
            bus.plugin.get_service_plugin_list()
        assert "sesame" not in str(caught.value)
    finally:
        bus.close()


def test_options_of_the_library_are_taken_from_the_same_files(tmp_path: Path) -> None:
    extra = tmp_path / "conf.d"
    extra.mkdir()
    (extra / "rabbit.conf").write_text(
        "[oslo_messaging_rabbit]\n"
        "rabbit_quorum_queue = true\nheartbeat_timeout_threshold = 7\nrabbit_interval_max = 9\n"
    )
    base = configure(tmp_path, "rabbit://a:b@h1:5672,c:d%2F@h2:5672/v", control_exchange="other")
    options = messaging_options(["--config-file", str(base), "--config-dir", str(extra)])
    rabbit = options.oslo_messaging_rabbit
    assert (rabbit.rabbit_quorum_queue, rabbit.heartbeat_timeout_threshold, rabbit.rabbit_interval_max) == (True, 7, 9)
    assert (options.control_exchange, options.rpc_response_timeout) == ("other", 30)
    assert set(secrets_of(options)) == {"b", "d/", "d%2F"}


def test_neutrons_exchange_and_a_short_pause_between_tries_are_the_defaults(tmp_path: Path) -> None:
    options = messaging_options(["--config-file", str(configure(tmp_path, "rabbit://"))])
    assert (options.control_exchange, options.rpc_response_max_timeout) == ("neutron", 600)
    assert options.oslo_messaging_rabbit.rabbit_interval_max == 4
