"""Warnings about options of neutron-l3-agent that have no effect here."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from dvr_agent import config, config_files, l3_agent_options
from dvr_agent.extensions import Extension

NEUTRON_CONF = """\
[DEFAULT]
core_plugin = ml2
transport_url = rabbit://neutron:sesame@broker:5672/
rpc_workers = 4
[database]
connection = mysql+pymysql://neutron:sesame@db/neutron
[keystone_authtoken]
password = sesame
[oslo_messaging_rabbit]
rabbit_quorum_queue = true
[agent]
root_helper = sudo
report_interval = 12
"""
L3_AGENT_INI = """\
[DEFAULT]
agent_mode = dvr
# ha_confs_path = /commented/out
metadata_proxy_user = nobody
min_rtr_adv_interval = 20
[AGENT]
extensions = fip_qos, snat_log, port_forwarding
availability_zone = az1
[network_log]
rate_limit = 50
"""


def write(tmp_path: Path, *texts: str) -> list[Path]:
    """The files of a configuration that is read without errors."""
    arguments = []
    for number, text in enumerate(texts):
        path = tmp_path / f"{number}.conf"
        path.write_text(text)
        arguments += ["--config-file", str(path)]
    return config_files.files_of(config.load(arguments))


def _file(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / f"{len(list(tmp_path.iterdir()))}.conf"
    path.write_text(text)
    return ["--config-file", str(path)]


def load(tmp_path: Path, *texts: str) -> l3_agent_options.Values:
    return l3_agent_options.read_files(write(tmp_path, *texts))


def test_only_options_without_effect_are_named(tmp_path: Path) -> None:
    conf = load(tmp_path, NEUTRON_CONF, L3_AGENT_INI)
    assert l3_agent_options.ignored_options(conf) == [
        "[DEFAULT] metadata_proxy_user",
        "[agent] root_helper",
        "[network_log] rate_limit",
    ]


def test_files_of_a_directory_count_too(tmp_path: Path) -> None:
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "l3.conf").write_text("[agent]\nkill_scripts_path = /etc/kill\n")
    conf = config.load(["--config-dir", str(tmp_path / "conf.d")])
    assert l3_agent_options.ignored_options(l3_agent_options.read_files(config_files.files_of(conf))) == [
        "[agent] kill_scripts_path"
    ]


def test_each_configured_extension_that_is_not_served_is_named(tmp_path: Path) -> None:
    conf = config.load([argument for text in (NEUTRON_CONF, L3_AGENT_INI) for argument in _file(tmp_path, text)])
    texts = l3_agent_options.unsupported_functions(l3_agent_options.read_files(config_files.files_of(conf)))
    assert texts == ["[AGENT] extensions: snat_log is not supported: no log of SNAT on this host"]
    assert config.host_settings(conf).extensions == {Extension.FIP_QOS, Extension.PORT_FORWARDING}


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("[DEFAULT]\ncleanup_on_shutdown = True\n", "routers stay"),
        ("[AGENT]\nextensions = new_thing\n", "new_thing is not supported"),
    ],
)
def test_option_that_switches_on_a_missing_function_is_named_as_not_supported(
    tmp_path: Path, text: str, word: str
) -> None:
    (sentence,) = l3_agent_options.unsupported_functions(load(tmp_path, text))
    assert word in sentence


@pytest.mark.parametrize(
    "text",
    [
        "[DEFAULT]\ncleanup_on_shutdown = false\n",
        "[AGENT]\nextensions =\n",
        "[AGENT]\nextensions = fip_qos\nextensions =\n",
    ],
)
def test_default_value_in_a_file_is_not_named(tmp_path: Path, text: str) -> None:
    assert l3_agent_options.unsupported_functions(load(tmp_path, text)) == []


def test_ignored_options_are_logged_once_without_values_of_other_services(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        l3_agent_options.log_ignored(write(tmp_path, NEUTRON_CONF, L3_AGENT_INI))
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert "sesame" not in caplog.text
    caplog.clear()
    l3_agent_options.log_ignored(write(tmp_path, "[DEFAULT]\nhost = h1\n"))
    assert not caplog.records


def text(value: object) -> str:
    """As a file spells it."""
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def test_options_of_this_agent_are_never_named(tmp_path: Path) -> None:
    lines = []
    for group, opts in config.list_opts():
        lines += [f"[{group}]", *(f"{opt.name} = {text(opt.default)}" for opt in opts if opt.default not in (None, {}))]
    assert l3_agent_options.ignored_options(load(tmp_path, "\n".join(lines) + "\n")) == []
