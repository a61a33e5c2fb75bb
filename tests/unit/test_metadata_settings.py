"""What the agent tells the metadata proxy: from the configuration, over the socket, and back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dvr_agent import config
from dvr_agent.errors import ConfigError, ServiceError
from dvr_agent.metadata.settings import ProxySettings, Rate, proxy_settings


def load(tmp_path: Path, text: str) -> ProxySettings:
    (tmp_path / "a.conf").write_text(text)
    return proxy_settings(config.load(["--config-file", str(tmp_path / "a.conf")]))


def test_defaults_are_those_of_the_options(tmp_path: Path) -> None:
    assert load(tmp_path, "[DEFAULT]\nstate_path = /x\n") == ProxySettings("/x/metadata_proxy")


def test_neutrons_options_are_honoured(tmp_path: Path) -> None:
    text = """
[DEFAULT]
metadata_proxy_socket = /run/nova.sock
[metadata_rate_limiting]
rate_limit_enabled = true
ip_versions = 4,6
base_query_rate_limit = 20
burst_window_duration = 2
[metadata_haproxy]
timeout_server = 5
[metadata_proxy]
requests_per_router = 3
"""
    assert load(tmp_path, text) == ProxySettings(
        "/run/nova.sock",
        requests_per_router=3,
        timeout_server=5,
        rates=(Rate(20, 10), Rate(10, 2)),
        limited_versions=(4, 6),
    )


def test_they_survive_the_way(tmp_path: Path) -> None:
    settings = load(tmp_path, "[metadata_rate_limiting]\nrate_limit_enabled = true\n")
    assert ProxySettings.from_json(json.loads(json.dumps(settings.to_json()))) == settings


@pytest.mark.parametrize(
    "change",
    [
        {"upstream": 7},
        {"max_body_size": "many"},
        {"max_body_size": True},
        {"timeout_client": -1},
        {"rates": [{"requests": 1}]},
        {"rates": 3},
        {"limited_versions": ["four"]},
        {"unknown": 1},
    ],
)
def test_nonsense_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ServiceError, match="settings"):
        ProxySettings.from_json({**ProxySettings("/x").to_json(), **change})
    with pytest.raises(ServiceError, match="settings"):
        ProxySettings.from_json(None)


def test_intervals_that_radvd_does_not_take_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.conf").write_text("[DEFAULT]\nmin_rtr_adv_interval = 90\nmax_rtr_adv_interval = 100\n")
    with pytest.raises(ConfigError, match=r"min_rtr_adv_interval = 90: expected at most three quarters"):
        config.make_settings(config.load(["--config-file", str(tmp_path / "a.conf")]))


@pytest.mark.parametrize("value", ["2001:db8::1", "fe80::1%eth0", "nonsense", "10.0.0.1"])
def test_an_ipv6_gateway_that_is_not_link_local_is_named(tmp_path: Path, value: str) -> None:
    (tmp_path / "a.conf").write_text(f"[DEFAULT]\nagent_mode = dvr\nipv6_gateway = {value}\n")
    with pytest.raises(ConfigError, match="expected a link-local IPv6 address"):
        config.host_settings(config.load(["--config-file", str(tmp_path / "a.conf")]))
