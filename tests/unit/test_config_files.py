"""What is said of a configuration that cannot be used: file, option, value, and what was expected."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dvr_agent import config
from dvr_agent.errors import ConfigError, DvrError, KernelError, exit_code


def refused(*arguments: object) -> str:
    with pytest.raises(ConfigError) as caught:
        config.make_settings(config.load([str(one) for one in arguments]))
    assert exit_code(caught.value) == os.EX_CONFIG
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[DEFAULT]\nagent_mode = dvr_hub\n", "[DEFAULT] agent_mode = 'dvr_hub': expected one of dvr, dvr_snat, "),
        ("[DEFAULT]\nagent_mode = legacy\n", "[DEFAULT] agent_mode = legacy: expected dvr, dvr_snat or "),
        ("[DEFAULT]\ndebug = maybe\n", "[DEFAULT] debug = 'maybe': expected true or false"),
        ("[DEFAULT]\nuse_json = 2\n", "[DEFAULT] use_json = '2': expected true or false"),
        ("[DEFAULT]\novs_use_veth = tru\n", "[DEFAULT] ovs_use_veth = 'tru': expected true or false"),
        ("[AGENT]\nuse_random_fully = x\n", "[AGENT] use_random_fully = 'x': expected true or false"),
        ("[agent]\nuse_random_fully = x\n", "[AGENT] use_random_fully = 'x': expected true or false"),
        ("[dvr_agent]\naudit_interval = -1\n", "[dvr_agent] audit_interval = '-1': expected an integer, at least 0"),
        ("[dvr_agent]\naudit_interval = 1.5\n", "[dvr_agent] audit_interval = '1.5': expected an integer"),
        ("[DEFAULT]\nmetadata_port = 65536\n", "metadata_port = '65536': expected an integer from 0 to 65535"),
        ("[AGENT]\nreport_interval = 0\n", "[AGENT] report_interval = '0': expected a number, at least 1"),
        (
            "[bridge]\nexternal_networks = a\n",
            "[bridge] external_networks = 'a': expected NAME:VALUE pairs, separated by commas",
        ),
        (
            "[bridge]\nexternal_networks = a:b,a:c\n",
            "[bridge] external_networks = 'a:b,a:c': expected NAME:VALUE pairs, separated by commas (Duplicate key a)",
        ),
        ("[DEFAULT]\nhost = a b\n", "[DEFAULT] host = 'a b': expected "),
        ("[DEFAULT]\ninterface_driver = hub\n", "[DEFAULT] interface_driver = 'hub': expected bridge or openvswitch"),
        ("[DEFAULT]\nexternal_ingress_mark = 0\n", "[DEFAULT] external_ingress_mark = '0': expected a number from 0x1"),
        ("[DEFAULT]\nipv6_gateway = 2001:db8::1\n", "[DEFAULT] ipv6_gateway = '2001:db8::1': expected a link-local"),
        ("[DEFAULT]\nstate_path = $nothing\n", "[DEFAULT] state_path: expected names of options after $"),
        ("[DEFAULT]\nlog_rotation_type = daily\n", "log_rotation_type = 'daily': expected one of interval, size, none"),
    ],
)
def test_a_bad_value_is_named_with_its_file_and_what_was_expected(tmp_path: Path, text: str, said: str) -> None:
    other, bad = tmp_path / "other.conf", tmp_path / "bad.conf"
    other.write_text("[DEFAULT]\nmetadata_access_mark = 0x1\n[dvr_agent]\nretry_interval = 2\n")
    bad.write_text(text)
    for files in ((other, bad), (bad, other)):
        words = [word for file in files for word in ("--config-file", file)]
        assert refused(*words).startswith(f"{bad}: [")
        assert said in refused(*words)


@pytest.mark.parametrize("text", ["no assignment\n", "[DEFAULT\n", "[]\n", " a = b\n", "= 3\n", "a = b\n"])
def test_a_line_that_is_no_assignment_is_named_with_file_and_number(tmp_path: Path, text: str) -> None:
    file = tmp_path / "bad.conf"
    file.write_text(text)
    said = refused("--config-file", file)
    assert said.startswith(f"{file}:1: ")
    assert said.endswith(": expected [section] or option = value")
    assert said.count(str(file)) == 1


def test_a_line_that_is_no_assignment_is_not_shown(tmp_path: Path) -> None:
    """It may be a secret whose equals sign is missing."""
    file = tmp_path / "bad.conf"
    file.write_text("[DEFAULT]\nmetadata_proxy_shared_secret hunter2\n")
    assert "hunter2" not in refused("--config-file", file)
    assert f"{file}:2: " in refused("--config-file", file)


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    assert f"{tmp_path}/none.conf: No such file" in refused("--config-file", tmp_path / "none.conf")
    assert f"{tmp_path}: Is a directory" in refused("--config-file", tmp_path)
    assert f"{tmp_path}/none" in refused("--config-dir", tmp_path / "none")
    (tmp_path / "latin.conf").write_bytes(b"[DEFAULT]\nhost = \xe4\n")
    assert f"{tmp_path}/latin.conf: no text" in refused("--config-file", tmp_path / "latin.conf")


def test_files_of_a_directory_count_and_the_last_word_is_judged(tmp_path: Path) -> None:
    (tmp_path / "10.conf").write_text("[dvr_agent]\naudit_interval = often\n")
    (tmp_path / "20.conf").write_text("[dvr_agent]\naudit_interval = seldom\n")
    assert refused("--config-dir", tmp_path).startswith(f"{tmp_path}/20.conf: [dvr_agent] audit_interval = 'seldom'")
    (tmp_path / "20.conf").write_text("[dvr_agent]\naudit_interval = 5\n")
    assert config.load(["--config-dir", str(tmp_path)]).dvr_agent.audit_interval == 5


def test_a_section_that_stands_there_twice_is_one_section(tmp_path: Path) -> None:
    """As every OpenStack service has it: Neutron's files are used as they are."""
    file = tmp_path / "twice.conf"
    file.write_text(
        "[dvr_agent]\naudit_interval = 5\n[directory]\n[dvr_agent]\nretry_interval = 7\naudit_interval = 6\n"
    )
    conf = config.load(["--config-file", str(file)])
    assert (conf.dvr_agent.audit_interval, conf.dvr_agent.retry_interval) == (6, 7)


def test_a_secret_is_not_shown(tmp_path: Path) -> None:
    file = tmp_path / "neutron.conf"
    file.write_text("[DEFAULT]\ntransport_url = rabbit://neutron:se$ame@broker/\n")
    said = refused("--config-file", file)
    assert said.startswith(f"{file}: [DEFAULT] transport_url")
    assert "ame" not in said.partition("]")[2].replace("names", "")


def test_wrong_arguments_are_no_configuration(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        config.load(["--nonsense"])
    assert ended.value.code == 2
    assert "--nonsense" in capfd.readouterr().err


def caused(error: DvrError, cause: Exception) -> DvrError:
    error.__cause__ = cause
    return error


def test_only_what_another_start_does_not_mend_is_told_to_the_service_manager() -> None:
    assert exit_code(ConfigError("")) == 78
    assert exit_code(caused(ConfigError(""), PermissionError(13, ""))) == 78
    assert exit_code(caused(ConfigError(""), OSError(28, "No space left on device"))) == 1
    assert exit_code(KernelError("", "", 1)) == 1
