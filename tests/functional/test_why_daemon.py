"""``dvrctl why`` beside a running daemon: what only the daemon knows is in the answer."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dvr_agent.cli import admin_client
from dvr_agent.cli.ctl import main
from dvr_agent.cli.why.answer import Answer
from tests.support import lab
from tests.support.daemon_lab import Daemon
from tests.support.json_outputs import hold
from tests.support.packet_documents import RouterDocument
from tests.support.packet_world import NODE, PUBLIC, SCOPED
from tests.support.waiting import wait_for
from tests.support.why_rig import BLUE, FIP, WhyRig
from tests.support.xtables_lock import held_lock

NEW_FIP = "203.0.113.40"
_DIRECTIONS = (("a", "egress"), ("b", "ingress"))


class Beside(WhyRig):
    """The rig, with a daemon on its documents."""

    def __init__(self, host: lab.Host, base: Path) -> None:
        super().__init__(host, base)
        self.daemon = Daemon(
            base,
            DEFAULT={"host": NODE, "agent_mode": "dvr_snat"},
            bridge={"external_networks": f"{PUBLIC.id}:br-ex,{SCOPED.id}:br-scoped"},
        )
        self.read_configuration()

    @contextlib.contextmanager
    def served(self, *lines: str) -> Iterator[None]:
        """Have the daemon run with these options of [AGENT] inside the block."""
        self.daemon.stop()
        with self.configured("[AGENT]", *lines):
            self.daemon.start()
            self.wait(self.router, "in sync")
            yield
            self.daemon.stop()
        self.daemon.start()
        self.wait(self.router, "in sync")

    def state(self, router: RouterDocument) -> str:
        code, body = self.daemon.ask(f"/routers/{router.id}")
        return str(body["state"]) if code == 200 else ""

    def wait(self, router: RouterDocument, state: str) -> None:
        wait_for(lambda: self.state(router) == state, state)


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Beside]:
    with lab.fresh_host() as host:
        made = Beside(host, tmp_path_factory.mktemp("why"))
        made.daemon.start()
        made.wait(made.router, "in sync")
        yield made
        made.daemon.kill()


def key(found: Answer) -> str | None:
    return found.cause.key if found.cause is not None else None


def test_in_sync_is_said(rig: Beside) -> None:
    found = rig.why(FIP)
    assert (key(found), found.is_wrong) == (None, False)
    assert {step.text for step in found.steps if step.step == "daemon"} == {"the router is in sync"}


def test_the_command_prints_it_as_text_and_as_json(rig: Beside, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["--config-file", str(rig.config)]
    assert main([*command, "why", FIP]) == 0
    assert f"This host's part of {FIP} is right." in capsys.readouterr().out.splitlines()
    assert main([*command, "-o", "json", "why", "192.0.2.9"]) == 2
    answer = json.loads(capsys.readouterr().out)
    assert set(answer) == {"subject", "steps", "cause", "sentence", "advice", "changes"}
    assert {frozenset(step) for step in answer["steps"]} == {
        frozenset({"step", "verdict", "text", "object", "cause"}),
    }
    assert (answer["subject"], answer["cause"]) == ("192.0.2.9", "no-document")
    assert main([*command, "why", "nobody"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert '"nobody"' in err


def test_a_stopped_daemon_is_told_from_one_that_does_not_run_and_waited_for_once(
    rig: Beside, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    once = admin_client._ask

    def ask(path: str, resource: str, method: str, timeout: float) -> dict[str, Any]:
        asked.append(resource)
        return once(path, resource, method, 1.0)

    monkeypatch.setattr(admin_client, "_ask", ask)
    process, command = rig.daemon.process, ["--config-file", str(rig.config)]
    assert process is not None
    process.send_signal(signal.SIGSTOP)
    try:
        codes = [main([*command, "why", FIP]), main([*command, "status"])]
    finally:
        process.send_signal(signal.SIGCONT)
    out, err = capsys.readouterr()
    assert (codes, asked) == ([2, 1], ["/status", "/status"])
    for text in (out, err):
        assert "does not answer within 1 s" in text
        assert f"process {process.pid} (" in text
        assert "in state T (stopped)" in text
        assert "Start dvr-agent" not in text
    assert f"Continue dvr-agent (`kill -CONT {process.pid}`)." in out.splitlines()
    wait_for(lambda: rig.state(rig.router) == "in sync")


def test_only_faults_and_the_last_changes_are_printed_where_something_is_wrong(
    rig: Beside, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--config-file", str(rig.config)]
    lab.run("ip", "-n", rig.names["Q"], "route", "add", "throw", "default", "table", "16", "metric", "9")
    lab.run("ip", "-n", rig.names["Q"], "rule", "del", "from", "10.1.0.5", "lookup", "16")
    wait_for(lambda: "from 10.1.0.5/32" in json.dumps(rig.daemon.ask("/history")[1]))
    lab.run("ip", "-n", rig.names["Q"], "rule", "add", "priority", "3", "from", "10.1.0.5", "prohibit")
    try:
        assert main([*command, "why", FIP, "--only-faults"]) == 2
        text = capsys.readouterr().out
        assert main([*command, "-o", "json", "why", "--only-faults", FIP]) == 2
        answer = json.loads(capsys.readouterr().out)
    finally:
        lab.run("ip", "-n", rig.names["Q"], "rule", "del", "priority", "3")
        lab.run("ip", "-n", rig.names["Q"], "route", "del", "throw", "default", "table", "16", "metric", "9")
    assert not any(line.startswith("ok ") for line in text.splitlines())
    assert {step["verdict"] for step in answer["steps"]} == {"wrong", "unknown"}
    assert 0 < len(answer["changes"]) <= 5
    assert {change["router"] for change in answer["changes"]} == {rig.router.id}
    hold("why", answer)
    heading = text.splitlines().index("last changes (dvrctl history; 5 at most):")
    assert f"router {rig.router.id} (one): drift: " in text.splitlines()[-1]
    assert len(text.splitlines()) == heading + 1 + len(answer["changes"])


def test_a_limit_is_named_with_its_policy_and_since_when_and_recent_changes_are_shown_without_a_fault(
    rig: Beside, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = "11111111-2222-4333-8444-555555555555"
    rule = {"qos_policy_id": policy, "type": "bandwidth_limit", "max_kbps": 10, "max_burst_kbps": 0}
    rules = [
        {**rule, "id": f"{way}1111111-2222-4333-8444-555555555555", "direction": name} for way, name in _DIRECTIONS
    ]
    with rig.served("extensions = fip_qos"):
        envelope = rig.router.envelope()
        for fip in envelope["router"]["_floatingips"]:
            fip["qos_policy_id"] = policy if fip["floating_ip_address"] == FIP else None
        envelope["qos_policies"] = [{"id": policy, "rules": rules}]
        path = rig.documents / f"{rig.router.name}.json"
        path.write_text(json.dumps(envelope))
        wait_for(lambda: " 10 kbit/s" in json.dumps(rig.daemon.ask("/history")[1]) and not rig.why(FIP).is_wrong)
        assert main(["--config-file", str(rig.config), "why", FIP]) == 0
        text = capsys.readouterr().out
        rig.write(rig.router)
        wait_for(lambda: "limited" not in rig.why(FIP).sentence)
    device = rig.names["rfp"]
    assert f"{FIP} to 10 kbit/s entering {device} (QoS policy {policy}, since 20" in text
    assert f"{FIP} to 10 kbit/s leaving {device} (QoS policy {policy}, since 20" in text
    assert "last changes (dvrctl history; of the last hour, 3 at most):" in text.splitlines()


def test_a_missing_bridge_is_named_and_the_retry_shown(rig: Beside) -> None:
    lab.run("ip", "link", "del", "br-scoped")
    second = rig.world.cloud.router("second").gateway(SCOPED, "198.18.0.3")
    path = rig.write(second)
    rig.wait(second, "degraded")
    found = rig.why("second")
    assert key(found) == "bridge-missing", found.sentence
    assert "br-scoped" in found.sentence
    assert any(step.step == "retry" for step in found.steps)
    assert any(step.step == "daemon" and "br-scoped" in step.text for step in found.steps)
    lab.run("ip", "link", "add", "br-scoped", "type", "bridge")
    lab.run("ip", "link", "set", "br-scoped", "up")
    rig.wait(second, "in sync")
    path.unlink()
    wait_for(lambda: rig.state(second) == "")


@pytest.mark.legacy_tables("changes of nf_tables take no lock")
def test_a_held_lock_is_named_while_a_floating_ip_waits_for_it(rig: Beside) -> None:
    third = rig.world.cloud.vm("vm4", BLUE, "10.1.0.8")
    rig.router.floating_ip(NEW_FIP, third)
    with held_lock():
        rig.write(rig.router)
        wait_for(lambda: any("xtables.lock" in text for text in rig.daemon.status()["troubles"]))
        found = rig.why(NEW_FIP)
    assert key(found) == "table-lock", found.sentence
    assert re.search(r"held by \w+ \(process \d+: \S+ ", found.sentence), found.sentence
    rig.wait(rig.router, "in sync")
    wait_for(lambda: key(rig.why(NEW_FIP)) == "instance-absent")
    assert rig.tap(third) in rig.why(NEW_FIP).sentence


def test_a_refused_document_is_named_though_the_router_still_works(rig: Beside) -> None:
    path = rig.write(rig.router, enable_snat="perhaps")
    rig.wait(rig.router, "bad document")
    found = rig.why(rig.router.id)
    assert key(found) == "document-refused", found.sentence
    assert "enable_snat" in found.sentence
    rig.write(rig.router)
    rig.wait(rig.router, "in sync")
    assert path.exists()


def test_a_fight_is_named_with_its_object(rig: Beside) -> None:
    names = rig.names

    def remove() -> bool:
        """Remove the rule as often as the daemon repairs it."""
        lab.run("ip", "-n", names["Q"], "rule", "del", "from", "10.1.0.5", "lookup", "16", check=False)
        return bool(rig.daemon.status()["fights"])

    wait_for(remove)
    found = rig.why(FIP)
    assert key(found) == "fight", found.sentence
    assert "from 10.1.0.5/32 lookup 16" in found.sentence
    assert "more line" not in found.sentence
    assert found.advice.startswith("Stop that program; ")


def test_a_router_whose_removal_is_held_back_is_named(rig: Beside) -> None:
    rig.daemon.stop()
    shutil.rmtree(rig.documents)
    rig.documents.mkdir()
    rig.daemon.start()
    wait_for(lambda: rig.daemon.status()["guard"])
    found = rig.why(rig.router.id[:13])
    assert key(found) == "held-back", found.sentence
    assert rig.router.id in found.sentence
