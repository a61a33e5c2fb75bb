"""Everything that is wrong with configuration files (``dvrctl check --config``)."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from dvr_agent import config, config_check
from dvr_agent.cli import ctl
from dvr_agent.config_check import Finding, Kind
from tools.sample_config import SAMPLE

WRONG = """\
# a comment
[DEFAULT]
hots = h1
agent_mode = dvr_hub
ha_vrrp_auth_password = sesame

metadata_port =
  99999
[dvr_agnet]
audit_interval = 3
[dvr_agent]
audit_intervall = 4
metadata_access_mark = 7
[oslo_messaging_rabbit]
rabbit_quorum_que = true
[Default]
[bridge]
external_networks = a
"""


NEWER = ("log_color",)
"""Options of the sample that the oldest supported libraries lack."""


def found(*files: Path) -> list[Finding]:
    arguments = [word for path in files for word in ("--config-file", str(path))]
    return config_check.check(arguments, files)


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_all_errors_are_found_with_their_lines_and_what_may_have_been_meant(tmp_path: Path) -> None:
    listed = found(write(tmp_path / "a.conf", WRONG))
    assert [(one.line, one.kind, one.meant) for one in listed] == [
        (3, Kind.UNKNOWN_OPTION, "host"),
        (4, Kind.VALUE, ""),
        (7, Kind.VALUE, ""),
        (9, Kind.UNKNOWN_GROUP, "dvr_agent"),
        (12, Kind.UNKNOWN_OPTION, "audit_interval"),
        (13, Kind.UNKNOWN_OPTION, "[DEFAULT] metadata_access_mark"),
        (15, Kind.UNKNOWN_OPTION, "rabbit_quorum_queue"),
        (16, Kind.UNKNOWN_GROUP, "DEFAULT"),
        (18, Kind.VALUE, ""),
    ]
    assert str(listed[0]) == f"{tmp_path}/a.conf:3: [DEFAULT] hots: unknown option, ignored; did you mean host?"
    assert not any("sesame" in str(one) for one in listed)


def test_each_file_is_named_that_cannot_be_read_or_is_no_configuration(tmp_path: Path) -> None:
    secret = write(tmp_path / "a.conf", "[DEFAULT]\nhost = h\nsesame\n")
    binary = tmp_path / "b.conf"
    binary.write_bytes(b"\xff\xfe")
    listed = found(secret, binary, tmp_path / "none.conf")
    assert [(Path(one.file).name, one.line, one.kind) for one in listed] == [
        ("b.conf", 0, Kind.UNREADABLE),
        ("none.conf", 0, Kind.UNREADABLE),
        ("a.conf", 3, Kind.SYNTAX),
    ]
    assert not any("sesame" in str(one) for one in listed)


def test_unknown_options_of_neutrons_own_files_are_not_reported(tmp_path: Path) -> None:
    text = "[DEFAULT]\nrpc_workers = 4\ndvr_base_mac = fa:16:3f:00:00:00\n[nova]\nx = y\n"
    neutrons = write(tmp_path / "neutron" / "other.conf", text)
    by_name = write(tmp_path / "etc" / "l3_agent.ini", text)
    link = tmp_path / "conf.d" / "10-neutron.conf"
    link.parent.mkdir()
    link.symlink_to(neutrons)
    by_content = write(tmp_path / "copy.conf", "[DEFAULT]\ncore_plugin = ml2\n" + text)
    assert found(link, by_name, by_content) == []
    assert len(found(write(tmp_path / "own.conf", text))) == 3


def test_unknown_option_in_a_group_of_ours_is_reported_in_neutrons_file_too(tmp_path: Path) -> None:
    text = "[DEFAULT]\nrpc_workers = 4\n[dvr_agent]\naudit_intervall = 3\n[agent]\nnothing = 1\n"
    (one,) = found(write(tmp_path / "neutron" / "l3_agent.ini", text))
    assert (one.kind, one.line, one.meant) == (Kind.UNKNOWN_OPTION, 4, "audit_interval")


def test_bad_value_in_neutrons_file_is_an_error_all_the_same(tmp_path: Path) -> None:
    (one,) = found(write(tmp_path / "neutron" / "l3_agent.ini", "[DEFAULT]\nmetadata_port = x\n"))
    assert (one.kind, one.line) == (Kind.VALUE, 2)


def test_options_of_neutron_l3_agent_without_effect_are_notes(tmp_path: Path) -> None:
    text = "[DEFAULT]\ncleanup_on_shutdown = true\nper_router_log_files = false\n[agent]\nextensions = snat_log\n"
    listed = found(write(tmp_path / "a.conf", text))
    assert [(one.line, one.kind) for one in listed] == [
        (2, Kind.UNSUPPORTED),
        (3, Kind.NO_EFFECT),
        (5, Kind.UNSUPPORTED),
    ]
    assert not any(one.kind.is_error for one in listed)


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("[DEFAULT]\nagent_mode = legacy\n", 2, "agent_mode = legacy"),
        ("[DEFAULT]\nipv6_gateway = 2001:db8::1\n", 2, "link-local"),
        ("[DEFAULT]\nhost = h\nmetadata_access_mark = 0x10000\n", 3, "metadata_access_mark"),
        ("[DEFAULT]\nstate_path = $nothing/x\n", 2, "names of options after $"),
        ("[DEFAULT]\nhost = h\nmin_rtr_adv_interval = 90\n", 3, "at most three quarters of max_rtr_adv_interval"),
        ("[DEFAULT]\ndefault_log_levels = amqp=WARN, dvr_agent=LOUD\n", 2, "'dvr_agent=LOUD': expected LOGGER=LEVEL"),
        ("[DEFAULT]\nagent_mode = dvr\ntransport_url = rabbit://u:sesame@[::1:5/\n", 3, "transport_url"),
    ],
)
def test_what_the_daemon_would_refuse_at_its_start_is_found_too(
    tmp_path: Path, text: str, line: int, said: str
) -> None:
    (one,) = found(write(tmp_path / "a.conf", text))
    assert (one.kind, one.line) == (Kind.VALUE, line)
    assert said in one.text
    assert "sesame" not in one.text
    assert str(tmp_path) not in one.text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[DEFAULT]\nhost = -1\n", "host = '-1': expected an IP address or a host name"),
        (
            "[metadata_rate_limiting]\nip_versions = 5\n",
            "ip_versions = '5': expected a list, separated by commas, each one of 4, 6",
        ),
    ],
)
def test_what_an_option_takes_is_said_in_words(tmp_path: Path, text: str, said: str) -> None:
    (one,) = found(write(tmp_path / "a.conf", text))
    assert one.text.endswith(said)


def test_of_two_files_the_value_in_force_counts(tmp_path: Path) -> None:
    bad, good = "[DEFAULT]\nmetadata_port = x\n", "[DEFAULT]\nmetadata_port = 9697\n"
    first, second = write(tmp_path / "a.conf", bad), write(tmp_path / "b.conf", good)
    assert found(first, second) == []
    assert [one.file for one in found(second, first)] == [str(first)]


def test_no_option_of_ours_or_of_libraries_is_unknown(tmp_path: Path) -> None:
    lines = []
    for line in SAMPLE.read_text().splitlines():
        name = line.removeprefix("#").partition(" = ")[0]
        if line.startswith("["):
            lines.append(line)
        elif line.startswith("#") and name.isidentifier() and " = " in line and name not in NEWER:
            lines.append(f"{name} = 1")
    assert len(lines) > 90
    listed = found(write(tmp_path / "a.conf", "\n".join(lines) + "\n"))
    assert {one.kind for one in listed} <= {Kind.VALUE}
    assert config_check.find_unknown([tmp_path / "a.conf"]) == []


# -- dvrctl check --config


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str]:
    code = ctl.main([str(word) for word in words])
    printed = capsys.readouterr()
    assert printed.err == ""
    return code, printed.out


def test_check_of_the_configuration_prints_a_line_for_each_finding(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad, good = write(tmp_path / "a.conf", WRONG), write(tmp_path / "b.conf", "[agent]\nextensions = snat_log\n")
    code, text = run(capsys, "check", "--config", bad, good)
    assert code == 1
    assert text.splitlines()[0].startswith(f"bad  {bad}:3: [DEFAULT] hots")
    assert text.splitlines()[-1] == "2 files: 9 errors, 1 note"
    assert run(capsys, "--config-file", bad, "check", "--config")[0] == 1
    code, text = run(capsys, "--config-file", good, "check", "--config")
    assert (code, text.splitlines()[-1]) == (0, "1 file: 0 errors, 1 note")
    code, text = run(capsys, "-o", "json", "check", "--config", bad)
    assert (code, json.loads(text)["errors"]) == (1, 9)
    assert json.loads(text)["findings"][0]["did_you_mean"] == "host"


def test_an_address_at_which_the_page_cannot_be_served_is_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "a.conf", "[DEFAULT]\nhost = h\n[web]\nlisten = 0.0.0.0:9699\n")
    code, said = run(capsys, "check", "--config", path)
    assert code == 1
    assert f"bad  {path}:4: [web] listen = 0.0.0.0:9699: expected a loopback address and a port" in said


def test_the_sample_has_nothing_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "check", "--config", SAMPLE) == (0, f"ok   {SAMPLE}\n1 file: 0 errors, 0 notes\n")


def test_check_without_a_file_is_a_wrong_argument(capsys: pytest.CaptureFixture[str]) -> None:
    assert ctl.main(["--config-file", os.devnull, "check"]) == 64
    err = capsys.readouterr().err
    assert "FILE is missing" in err
    assert "dvrctl check --config" in err
    assert "dvrctl why ADDRESS" in err


def test_an_ordinary_user_checks_documents_though_the_configuration_is_roots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config, "default_files", lambda: ([str(tmp_path / "unreadable.conf")], []))
    assert config.load([], readable_only=True).dvr_agent.max_document_size == 16 << 20
