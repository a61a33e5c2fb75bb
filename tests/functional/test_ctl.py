"""dvrctl as its user meets it: a process of its own, on a real kernel."""

from __future__ import annotations

import json
import os
import pty
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

from dvr_agent.kernel.namespaces import MAKING_SECONDS
from tests.support import lab
from tests.support.ctl import Ctl
from tests.support.daemon_lab import Daemon
from tests.support.filter_tools import add_translation, flush_nat, rule_kind, saved, uses_nftables
from tests.support.recorded_documents import DATA, DOCUMENTS
from tests.support.waiting import wait_for

HA = DOCUMENTS / "m_ha_dvr-compute1.json"


def snapshot(ctl: Ctl) -> dict[str, Any]:
    """Everything that a command which writes nothing must leave as it is, less what the kernel does by itself."""
    files = [(str(path), path.read_bytes()) for path in sorted(ctl.state.rglob("*")) if path.is_file()]
    found: dict[str, Any] = {"files": files}
    for name in [None, *sorted(ctl.ns())]:
        links = lab.ip_json("link", netns=name)
        found[f"{name} links"] = [
            (x["ifindex"], x["ifname"], x["address"], x["mtu"], "UP" in x["flags"]) for x in links
        ]
        found[f"{name} addresses"] = [(x["ifname"], x["addr_info"]) for x in lab.ip_json("-4", "address", netns=name)]
        for words in ("-4 route show table all", "-4 rule", "-6 rule", "neighbour show nud permanent"):
            # A device's carrier comes some time after it was made.
            found[f"{name} {words}"] = [{**x, "flags": None} for x in lab.ip_json(*words.split(), netns=name)]
        if name:
            found[f"{name} rules"] = [line for line in saved(name).splitlines() if not line.startswith(("#", ":"))]
    return found


# --- the command line ------------------------------------------------------------------------------------------


def test_help_tells_verbs_and_exit_codes(ctl: Ctl) -> None:
    done = ctl.run("--help")
    assert done.returncode == 0
    for word in ("check", "plan", "apply", "show", "status", "cleanup", "demo", "exit codes:"):
        assert word in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "VERB"),
        (("nonsense",), "'nonsense'"),
        (("plan", "--nonsense"), "--nonsense"),
        (("plan", "--config-file", "/x"), "--config-file and --config-dir stand before the verb"),
        (("check",), "FILE is missing"),
        (("cleanup", "--router", "x"), "'x' is no router id"),
        (("history", "-n", "-1"), "'-1' is no number of changes"),
        (("capture", "203.0.113.5", "-w", "/x"), "belong to --run"),
        (("web", "--listen", "0.0.0.0:9699"), "argument --listen: '0.0.0.0:9699': expected a loopback address"),
    ],
)
def test_wrong_arguments_are_one_line_and_a_code_of_their_own(ctl: Ctl, words: tuple[str, ...], said: str) -> None:
    done = ctl.run(*words)
    assert done.returncode == 64
    assert len(done.stderr.splitlines()) == 1
    assert said in done.stderr


def test_a_bad_configuration_is_one_line(ctl: Ctl) -> None:
    ctl.config.write_text("[DEFAULT]\nagent_mode = nonsense\n")
    done = ctl.run("check", ctl.document())
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "agent_mode" in done.stderr


def test_a_reader_that_leaves_early_is_no_error_to_shout_about(ctl: Ctl) -> None:
    words = [sys.executable, "-m", "dvr_agent.cli.ctl", "--config-file", str(ctl.config), "check"]
    words += [str(ctl.base / "nowhere")] * 1000  # more output than a pipe holds
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(1)
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_output_that_cannot_be_written_is_one_line(ctl: Ctl) -> None:
    words = [sys.executable, "-m", "dvr_agent.cli.ctl", "--config-file", str(ctl.config), "check", str(ctl.document())]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "dvrctl: the output cannot be written: No space left on device\n"


def test_without_any_output_the_exit_code_still_tells(ctl: Ctl) -> None:
    words = [sys.executable, "-m", "dvr_agent.cli.ctl", "--config-file", str(ctl.config), "check", str(ctl.document())]
    done = subprocess.run(["sh", "-c", '"$@" >&-', "sh", *words], stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_what_is_no_router_id_is_said_in_words(ctl: Ctl) -> None:
    done = ctl.run("cleanup", "--router", "a3d9771d")
    assert "'a3d9771d' is no router id (the whole UUID" in done.stderr


@pytest.mark.parametrize("black_hole", [False, True], ids=["closed port", "nobody answers"])
def test_fetch_says_how_long_it_waits_and_gives_up_then_without_a_word_of_libraries(
    kernel_ctl: Ctl, black_hole: bool
) -> None:
    text = kernel_ctl.config.read_text()
    kernel_ctl.config.write_text(
        "[DEFAULT]\ntransport_url = rabbit://neutron:sesame@127.0.0.1:5679/\nagent_mode = dvr\n" + text
    )
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 5679))
        if black_hole:
            listener.listen()  # the kernel takes connections, and nothing ever reads from them
        done = kernel_ctl.run("fetch", "--timeout", "3", PYTHONWARNINGS="default")
    why = "it takes connections, and gave no answer within 2 s" if black_hole else "Connection refused"
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "dvrctl: asking neutron-server by 127.0.0.1:5679, for 3 s at most",
        f"dvrctl: neutron-server: no answer by 127.0.0.1:5679 within 3 s (127.0.0.1:5679: {why})",
    ]
    assert done.stdout == ""
    planned = kernel_ctl.run("plan")
    assert planned.returncode == 1
    assert "/routers: No such file or directory (dvrctl fetch gets neutron-server's documents)" in planned.stderr


def test_the_demo_tells_its_steps_in_json_and_reads_no_configuration_of_the_host(
    ctl: Ctl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop_in = tmp_path / ".dvr-agent/dvr-agent.conf.d/50-site.conf"
    drop_in.parent.mkdir(parents=True)
    drop_in.write_text("[DEFAULT]\nenable_metadata_proxy = true\nhost = node1\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    told = ctl.json("demo")
    assert told["worked"] is True
    assert told["error"] is None
    assert len(told["steps"]) == 9
    assert all(step["title"] and step["shown"] for step in told["steps"])


# --- check -----------------------------------------------------------------------------------------------------


def test_check_lists_every_file_and_judges_them_together(ctl: Ctl, tmp_path: Path) -> None:
    good, twin = ctl.document("a.json"), ctl.document("b.json")
    broken, missing = tmp_path / "broken.json", tmp_path / "missing.json"
    broken.write_text('{"id": 7}')
    assert ctl.run("check", good).returncode == 0
    done = ctl.run("check", good, twin, broken, missing)
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["ok", "bad", "bad", "bad"]
    assert str(good) in lines[1]
    assert "$.id" in lines[2]
    assert "No such file" in lines[3]
    found = ctl.json("check", good, twin, code=1)
    assert [entry["ok"] for entry in found["documents"]] == [True, False]
    assert found["documents"][1]["error"]["path"] == "$.id"


def test_check_reads_standard_input(ctl: Ctl) -> None:
    assert ctl.run("check", "-", text=HA.read_text()).stdout.startswith("ok ")
    assert ctl.run("check", "-", text="{").returncode == 1


def test_nothing_of_a_document_reaches_the_terminal_raw(ctl: Ctl) -> None:
    document = json.dumps({"id": str(uuid.uuid4()), "distributed": True, "name": "\x1b[2J\nok  fake"})
    done = ctl.run("check", "-", text=document)
    assert "\x1b" not in done.stdout
    assert len(done.stdout.splitlines()) == 1


# --- plan and apply --------------------------------------------------------------------------------------------


def test_plan_apply_plan(kernel_ctl: Ctl) -> None:
    path = kernel_ctl.document()
    planned = kernel_ctl.run("plan", path)
    assert planned.returncode == 2
    assert "    + rule " in planned.stdout
    translation = "element ip dvr fip_in {" if uses_nftables() else "iptables -t nat -A dvr-PREROUTING -d"
    assert f"    + {translation} 203.0.113." in planned.stdout
    done = kernel_ctl.run("apply", path)
    assert done.returncode == 0
    assert " ms\n" in done.stdout
    body = [line for line in planned.stdout.splitlines() if line.startswith(" ")]
    assert body == [line for line in done.stdout.splitlines() if line.startswith(" ")]
    assert len(kernel_ctl.ns()) == 3
    assert (kernel_ctl.state / "fip-linklocal-networks").read_text().count("\n") == 1
    again = kernel_ctl.run("plan")
    assert (again.returncode, again.stdout.splitlines()[-1]) == (0, "plan: 1 in sync")
    assert "was in sync" in kernel_ctl.run("apply", path).stdout


def test_plan_shows_drift_and_writes_nothing(kernel_ctl: Ctl) -> None:
    path = kernel_ctl.document()
    kernel_ctl.json("apply", path)
    (qrouter,) = (name for name in kernel_ctl.ns() if name.startswith("qrouter-"))
    lab.run("ip", "-n", qrouter, "route", "flush", "table", "16")
    flush_nat(qrouter)
    before = snapshot(kernel_ctl)
    found = kernel_ctl.json("plan", code=2)
    (namespace,) = found["plans"][0]["namespaces"]
    assert namespace["name"] == qrouter
    assert {(change["action"], change["kind"]) for change in namespace["changes"]} == {
        ("+", "route"),
        ("+", rule_kind()),
    }
    assert kernel_ctl.run("plan", path).returncode == 2
    assert kernel_ctl.run("show", "routers").returncode == 0
    assert snapshot(kernel_ctl) == before


def test_plan_on_an_untouched_host_makes_no_state_directory(kernel_ctl: Ctl) -> None:
    kernel_ctl.document()
    assert kernel_ctl.run("plan").returncode == 2
    assert not kernel_ctl.state.exists()
    assert kernel_ctl.ns() == set()
    assert [link["ifname"] for link in lab.ip_json("link")] == ["lo"]


def test_what_two_routers_share_is_printed_once(kernel_ctl: Ctl) -> None:
    kernel_ctl.document("a.json")
    kernel_ctl.document("b.json", number=1)
    text = kernel_ctl.run("plan").stdout
    assert text.count("+ namespace fip-") == 1
    assert text.count("+ link fg-") == 1
    assert text.count("+ link fpr-") == 2
    pairs = {line.split()[2] for line in text.splitlines() if "+ address 169.254." in line and "dev fpr-" in line}
    assert len(pairs) == 2


def test_apply_goes_on_after_a_bad_document_and_says_so(kernel_ctl: Ctl, tmp_path: Path) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text("{")
    done = kernel_ctl.run("apply", bad, kernel_ctl.document())
    assert done.returncode == 1
    assert done.stderr.splitlines() == [line for line in done.stderr.splitlines() if "bad.json" in line]
    assert len(kernel_ctl.ns()) == 3


@pytest.fixture
def left_alone(tmp_path: Path) -> Path:
    """A legacy HA router in whose VRRP this host takes no part."""
    document = json.loads(HA.read_text())
    document["router"] |= {"distributed": False, "_ha_interface": None}
    path = tmp_path / "left-alone.json"
    path.write_text(json.dumps(document))
    return path


def test_unsupported_routers_are_left_alone(kernel_ctl: Ctl, left_alone: Path) -> None:
    kernel_ctl.document(template=left_alone)
    found = kernel_ctl.json("plan")
    assert "HA" in found["skipped"][0]["reason"]
    assert [text for text in found["warnings"] if text.startswith("1 router is left alone") and "HA" in text]
    assert [one["note"] for one in kernel_ctl.json("show", "routers")["routers"]] == [found["skipped"][0]["reason"]]
    assert kernel_ctl.run("apply", kernel_ctl.routers / "one.json").returncode == 1
    assert kernel_ctl.ns() == set()


def test_apply_changes_nothing_before_it_is_known_what_is_left_alone(kernel_ctl: Ctl, left_alone: Path) -> None:
    other = kernel_ctl.document()
    alone = kernel_ctl.document("alone.json", template=left_alone)
    refused = kernel_ctl.run("apply", other, alone)
    assert refused.returncode == 1
    assert "1 router is left alone" in refused.stderr
    assert "Nothing was changed" in refused.stderr
    assert kernel_ctl.ns() == set()
    assert kernel_ctl.run("apply", "--yes", other, alone).returncode == 1
    assert len(kernel_ctl.ns()) == 3


def test_a_router_that_is_administratively_down_is_planned_away(kernel_ctl: Ctl) -> None:
    path = kernel_ctl.document()
    kernel_ctl.json("apply", path)
    path.write_text(path.read_text().replace('"admin_state_up": true', '"admin_state_up": false'))
    document = json.loads(path.read_text())
    document.get("router", document)["admin_state_up"] = False
    path.write_text(json.dumps(document))
    assert {n["action"] for n in kernel_ctl.json("plan", code=2)["plans"][0]["namespaces"]} == {"-"}
    kernel_ctl.json("apply", path)
    assert kernel_ctl.ns() == set()


def test_an_unreadable_directory_is_an_error_and_not_an_empty_plan(kernel_ctl: Ctl) -> None:
    kernel_ctl.json("apply", kernel_ctl.document())
    kernel_ctl.routers.rename(kernel_ctl.base / "away")
    for words in (("plan",), ("cleanup",), ("cleanup", "--dry-run")):
        done = kernel_ctl.run(*words)
        assert done.returncode == 1
        assert str(kernel_ctl.routers) in done.stderr
    assert kernel_ctl.run("show", "namespaces").returncode == 0
    assert len(kernel_ctl.ns()) == 3


# --- show ------------------------------------------------------------------------------------------------------


def test_show_tells_what_is_there(kernel_ctl: Ctl) -> None:
    path = kernel_ctl.document()
    kernel_ctl.json("apply", path)
    (entry,) = kernel_ctl.json("show", "routers")["routers"]
    assert (entry["document"], len(entry["namespaces"]), entry["note"]) == ("one.json", 3, "")
    (fip,) = kernel_ctl.json("show", "fips")["floating_ips"]
    assert (fip["belongs"], fip["in_kernel"]) == ("here", [f"qrouter-{entry['id']}"])
    assert (fip["state"], fip["complete"], fip["namespaces"]) == ("complete", True, [])
    listed = kernel_ctl.json("show", "namespaces")["namespaces"]
    assert {one["name"] for one in listed} == kernel_ctl.ns()
    assert not any(one["stale"] for one in listed)
    router = kernel_ctl.json("show", "router", entry["id"][:6])
    assert {one["name"] for one in router["namespaces"]} == kernel_ctl.ns()
    assert (router["gateway"]["host"], router["gateway"]["enable_snat"]) == (kernel_ctl.host, True)
    assert any("lookup 16" in text for one in router["namespaces"] for text in one["objects"])
    for words in (("routers",), ("router", entry["id"]), ("namespaces",), ("fips",)):
        assert entry["id"] in kernel_ctl.run("show", *words).stdout
    assert kernel_ctl.run("show", "router", "ffffffff").returncode == 1
    path.unlink()
    assert kernel_ctl.json("show", "routers")["routers"][0]["note"] == "stale: no document"
    assert all(one["stale"] for one in kernel_ctl.json("show", "namespaces")["namespaces"])
    assert kernel_ctl.json("show", "fips")["floating_ips"][0]["belongs"] == "no document"


def test_show_tells_where_ports_are_forwarded(kernel_ctl: Ctl) -> None:
    kernel_ctl.config.write_text(kernel_ctl.config.read_text() + "[AGENT]\nextensions = port_forwarding\n")
    template = DATA / "feature_documents" / "q1_port_forwarding-compute1.json"
    kernel_ctl.json("apply", kernel_ctl.document(template=template))
    (entry,) = kernel_ctl.json("show", "routers")["routers"]
    found = [one for one in kernel_ctl.json("show", "fips")["floating_ips"] if one["belongs"] == "port forwardings"]
    fixed = {one["floating_ip"]: one["fixed_ip"] for one in found}
    assert fixed == {"203.0.113.160": "10.1.0.199", "203.0.113.251": "10.1.0.126, 10.1.0.241"}
    assert {tuple(one["in_kernel"]) for one in found} == {(f"snat-{entry['id']}",)}
    assert {one["state"] for one in found} == {"complete"}


def test_show_fips_tells_what_of_a_floating_ip_is_missing(kernel_ctl: Ctl) -> None:
    path = kernel_ctl.document()
    kernel_ctl.json("apply", path)
    (fip,) = kernel_ctl.json("show", "fips")["floating_ips"]
    address, fixed = fip["floating_ip"], fip["fixed_ip"]
    qrouter, outer = f"qrouter-{fip['router']}", next(name for name in kernel_ctl.ns() if name.startswith("fip-"))
    (rule,) = (one for one in lab.ip_json("rule", netns=qrouter) if one.get("src") == fixed)
    lab.run("ip", "-n", qrouter, "rule", "del", "priority", rule["priority"])
    lab.run("ip", "-n", outer, "route", "del", f"{address}/32")
    flush_nat(qrouter)
    (gateway,) = (link["ifname"] for link in lab.ip_json("link", netns=outer) if link["ifname"].startswith("fg-"))
    lab.in_netns(outer, "sysctl", "-qw", f"net.ipv4.conf.{gateway}.proxy_arp=0")
    lab.run("ip", "link", "set", f"tap{gateway[3:]}", "nomaster")
    (broken,) = kernel_ctl.json("show", "fips")["floating_ips"]
    assert (broken["state"], broken["complete"], broken["in_kernel"]) == ("incomplete", False, [])
    changes = {(change["action"], change["kind"]) for one in broken["namespaces"] for change in one["changes"]}
    assert changes == {("+", "rule"), ("+", "route"), ("+", rule_kind()), ("~", "sysctl"), ("~", "port")}
    text = kernel_ctl.run("show", "fips").stdout
    assert f"{address} of router {fip['router']} is incomplete; the plan says of it:" in text
    assert f"    + rule {rule['priority']}: from {fixed}/32 lookup 16\n" in text
    path.write_text(path.read_text().replace(kernel_ctl.host, "elsewhere"))
    kernel_ctl.json("apply", path)
    (moved,) = kernel_ctl.json("show", "fips")["floating_ips"]
    assert (moved["state"], moved["complete"], moved["in_kernel"]) == ("elsewhere", None, [])
    add_translation(qrouter, address, fixed)
    document = json.loads(path.read_text())
    document.get("router", document)["_floatingips"] = []
    path.write_text(json.dumps(document))
    (unknown,) = kernel_ctl.json("show", "fips")["floating_ips"]
    assert (unknown["belongs"], unknown["state"], unknown["complete"]) == ("no document", "stale", None)
    assert {change["action"] for one in unknown["namespaces"] for change in one["changes"]} == {"-"}


@pytest.mark.legacy_tables("iptables-legacy-save lists them")
def test_show_rules_prints_what_iptables_legacy_save_prints_of_ours(kernel_ctl: Ctl) -> None:
    kernel_ctl.json("apply", kernel_ctl.document())
    (qrouter,) = (name for name in kernel_ctl.ns() if name.startswith("qrouter-"))
    done = kernel_ctl.run("show", "rules", qrouter)
    assert {line for line in done.stdout.splitlines() if line.startswith("-A")} == {
        line for line in saved(qrouter).splitlines() if line.startswith("-A")
    }
    beginning = kernel_ctl.run("show", "rules", qrouter[:12])
    assert beginning.stdout == done.stdout
    of_router = kernel_ctl.json("show", "rules", "r-b2")
    assert of_router["router"] == qrouter.removeprefix("qrouter-")
    assert {one["namespace"] for one in of_router["namespaces"]} == kernel_ctl.ns()
    assert done.stdout.splitlines() in [one["rules"] for one in of_router["namespaces"]]
    refused = [kernel_ctl.run("show", "rules", text) for text in ("nothing", "fip-ffff")]
    assert [(one.returncode, len(one.stderr.splitlines())) for one in refused] == [(1, 1)] * 2


def test_show_prints_our_tables_of_nf_tables_as_nft_reads_them_and_counts_their_rules(kernel_ctl: Ctl) -> None:
    kernel_ctl.config.write_text(kernel_ctl.config.read_text() + "packet_filter = nftables\n")
    kernel_ctl.json("apply", kernel_ctl.document())
    (qrouter,) = (name for name in kernel_ctl.ns() if name.startswith("qrouter-"))
    listed = lab.in_netns(qrouter, "nft", "list", "ruleset")
    done = kernel_ctl.run("show", "rules", qrouter)
    lab.in_netns(qrouter, "nft", "flush", "ruleset")
    lab.in_netns(qrouter, "nft", "-f", "-", text=done.stdout)
    assert lab.in_netns(qrouter, "nft", "list", "ruleset") == listed
    rules = next(
        one["rules"] for one in kernel_ctl.json("show", "router", "r-b2")["namespaces"] if one["name"] == qrouter
    )
    assert rules == {"nft table ip dvr": 9, "nft table ip6 dvr": 2}
    assert lab.in_netns(qrouter, "cat", "/proc/net/ip_tables_names", "/proc/net/ip6_tables_names") == ""


def test_routers_of_one_name_are_told_apart_by_id(kernel_ctl: Ctl) -> None:
    kernel_ctl.json("apply", kernel_ctl.document("a.json"), kernel_ctl.document("b.json", number=1))
    ids = sorted(entry["id"] for entry in kernel_ctl.json("show", "routers")["routers"])
    for words in (("show", "router"), ("show", "rules")):
        refused = kernel_ctl.run(*words, "r-b2")
        assert (refused.returncode, len(refused.stderr.splitlines())) == (1, 1)
        assert all(router_id in refused.stderr for router_id in ids)
        assert kernel_ctl.run(*words, ids[0][:3]).returncode == 0


def test_texts_tell_the_family_and_the_names_of_tables(kernel_ctl: Ctl) -> None:
    kernel_ctl.json("apply", kernel_ctl.document())
    (qrouter,) = (one for one in kernel_ctl.json("show", "router", "r-b2")["namespaces"] if "qrouter" in one["name"])
    kernel = [text for text in qrouter["objects"] if text.startswith("rule 3276")]
    assert kernel[-3:] == [
        "rule 32766: from all (IPv6) lookup main",
        "rule 32766: from all lookup main",
        "rule 32767: from all lookup default",
    ]
    lab.run("ip", "-n", qrouter["name"], "-6", "rule", "del", "priority", 32766)
    assert "    + rule 32766: from all (IPv6) lookup main\n" in kernel_ctl.run("plan").stdout


# --- cleanup ---------------------------------------------------------------------------------------------------


@pytest.fixture
def two(kernel_ctl: Ctl) -> Ctl:
    """Two routers are there, and a namespace and a bridge that are not ours."""
    paths = [kernel_ctl.document("a.json"), kernel_ctl.document("b.json", number=1)]
    kernel_ctl.json("apply", *paths)
    lab.run("ip", "netns", "add", "foreign")
    lab.run("ip", "link", "add", "br-mine", "type", "bridge")
    return kernel_ctl


def test_cleanup_removes_what_has_no_document(two: Ctl) -> None:
    assert "nothing to remove" in two.run("cleanup").stdout
    (two.routers / "b.json").unlink()
    before = snapshot(two)
    assert two.json("cleanup", "--dry-run")["done"] is False
    assert snapshot(two) == before
    assert two.json("cleanup")["done"] is True
    assert len(two.ns()) == 4
    assert (two.state / "fip-linklocal-networks").read_text().count("\n") == 1
    assert two.run("plan").returncode == 0


def test_cleanup_takes_what_killed_processes_left(two: Ctl) -> None:
    before = bridges()
    (two.state / ".fip-priorities.4711").write_text("half")
    name = "snat-00000000-0000-4000-8000-000000000001"
    Path("/run/netns", name).touch()
    wait_for(lambda: time.time() - Path("/run/netns", name).stat().st_ctime > MAKING_SECONDS)
    gone = "brq12345678-12"
    lab.run("ip", "link", "add", gone, "type", "bridge")
    lab.run("ip", "link", "set", gone, "alias", "dvr-agent")
    planned = two.json("cleanup", "--dry-run")
    assert planned["bridges"] == [gone]
    assert planned["files"] == [str(two.state / ".fip-priorities.4711")]
    assert f"name {name} without a namespace" in two.run("cleanup", "--dry-run").stdout
    assert "bridges to remove" in two.run("cleanup", "--dry-run").stdout
    assert bridges() == before | {gone}
    done = two.json("cleanup")
    assert (done["bridges"], done["files"]) == (planned["bridges"], planned["files"])
    assert bridges() == before
    assert not (two.state / ".fip-priorities.4711").exists()
    assert name not in os.listdir("/run/netns")
    assert two.json("plan", two.routers / "a.json", two.routers / "b.json")["in_sync"] is True


def test_apply_shows_what_it_has_made_of_a_router_that_fails(kernel_ctl: Ctl) -> None:
    path = kernel_ctl.document()
    gateway = json.loads(path.read_text())["router"]["gw_port"]
    network, address = gateway["network_id"], gateway["fixed_ips"][0]["ip_address"]
    with kernel_ctl.config.open("a") as config:
        config.write(f"\n[bridge]\nexternal_networks = {network}:br-none\n")
    done = kernel_ctl.run("apply", path)
    assert done.returncode == 1
    assert "br-none" in done.stderr
    assert "+ namespace qrouter-" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("apply: 1 changed (")
    assert "link qg-" not in done.stdout
    assert f"--to-source {address}" not in done.stdout, "the rule is left out while the address is not there"
    again = kernel_ctl.run("apply", path)
    assert (again.returncode, again.stdout) == (1, "apply: 1 failed\n")


def test_cleanup_asks_before_an_empty_directory_removes_routers(two: Ctl) -> None:
    for path in two.routers.iterdir():
        path.unlink()
    assert "holds no document" in two.run("plan").stderr
    refused = two.run("cleanup")
    assert refused.returncode == 1
    assert "2 of 2 routers have no document" in refused.stderr
    assert "holds no document" in refused.stderr
    assert len(two.ns()) == 6
    assert two.json("cleanup", "--yes")["done"] is True
    assert two.ns() == {"foreign"}


def bridges() -> set[str]:
    return {link["ifname"] for link in lab.ip_json("link", "show", "type", "bridge")}


def test_cleanup_of_one_router_leaves_the_other_alone(two: Ctl) -> None:
    ids = {entry["document"]: entry["id"] for entry in two.json("show", "routers")["routers"]}
    two.json("cleanup", "--router", ids["b.json"])
    assert {name for name in two.ns() if ids["b.json"] in name} == set()
    assert two.json("plan", two.routers / "a.json")["in_sync"] is True


def test_cleanup_all_asks_and_takes_everything_of_ours_and_nothing_else(two: Ctl) -> None:
    refused = two.run("cleanup", "--all")
    assert refused.returncode == 1
    assert "--yes" in refused.stderr
    assert len(two.ns()) == 6
    planned = two.json("cleanup", "--all", "--dry-run")
    done = two.json("cleanup", "--all", "--yes")
    assert two.ns() == {"foreign"}
    assert planned["bridges"] == done["bridges"]
    left = [link["ifname"] for link in lab.ip_json("link")]
    assert "br-mine" in left
    assert not [name for name in left if name.startswith(("tap", "brq"))]
    assert all(name.startswith("brq") for name in done["bridges"])
    assert done["bridges"]
    assert (two.state / "fip-linklocal-networks").read_text() == ""


@pytest.mark.parametrize(("answer", "code", "left"), [("n", 1, 6), ("", 1, 6), ("yes", 0, 1)])
def test_the_operator_is_asked_on_a_terminal(two: Ctl, answer: str, code: int, left: int) -> None:
    terminal, stdin = pty.openpty()
    try:
        os.write(terminal, f"{answer}\n".encode())
        words = [sys.executable, "-m", "dvr_agent.cli.ctl", "--config-file", str(two.config), "cleanup", "--all"]
        done = subprocess.run(words, stdin=stdin, capture_output=True, text=True, timeout=60, check=False)
    finally:
        os.close(terminal)
        os.close(stdin)
    assert "(routers: 2)? [y/N]" in done.stderr
    assert (done.returncode, len(two.ns())) == (code, left)
    assert done.stdout.count("  - namespace qrouter-") == 2


def test_cleanup_is_held_back_by_a_bad_document_of_nobody_knows_whom(two: Ctl) -> None:
    (two.routers / "b.json").write_text("{")
    done = two.run("cleanup")
    assert done.returncode == 1
    assert len(two.ns()) == 6
    assert "stale objects are not judged" in two.run("plan").stderr


# --- with a daemon ---------------------------------------------------------------------------------------------


def test_status_without_a_daemon(ctl: Ctl) -> None:
    done = ctl.run("status")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1


def test_with_a_running_daemon(kernel_ctl: Ctl) -> None:
    path = kernel_ctl.document()
    daemon = Daemon(kernel_ctl.base, DEFAULT={"host": kernel_ctl.host, "state_path": kernel_ctl.state})
    assert (daemon.config, daemon.routers) == (kernel_ctl.config, kernel_ctl.routers)
    try:
        daemon.start()
        wait_for(lambda: daemon.status()["state"] == "in sync")
        done = kernel_ctl.run("status")
        assert done.returncode == 0, done.stdout
        assert "state        in sync" in done.stdout
        assert kernel_ctl.json("status")["host"] == kernel_ctl.host
        for words in (("apply", path), ("cleanup", "--all", "--yes")):
            refused = kernel_ctl.run(*words)
            assert refused.returncode == 1
            assert str(daemon.process.pid if daemon.process else 0) in refused.stderr
        assert kernel_ctl.run("plan").returncode == 0
        (kernel_ctl.routers / "two.json").write_text("{")
        wait_for(lambda: daemon.status()["source"]["bad"])
        assert kernel_ctl.run("status").returncode == 2
    finally:
        daemon.stop()
    assert len(kernel_ctl.ns()) == 3
