"""The options of metrics: only the loopback device, only files that node_exporter reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from dvr_agent import config
from dvr_agent.config import Settings
from dvr_agent.errors import ConfigError


def settings(tmp_path: Path, text: str) -> Settings:
    file = tmp_path / "dvr-agent.conf"
    file.write_text(text)
    return config.make_settings(config.load(["--config-file", str(file)]))


@pytest.mark.parametrize(
    ("listen", "wanted"),
    [
        ("", None),
        ("127.0.0.1:9794", ("127.0.0.1", 9794)),
        ("127.9.9.9:1", ("127.9.9.9", 1)),
        ("[::1]:9794", ("::1", 9794)),
    ],
)
def test_addresses_of_the_loopback_device_are_listened_on(
    tmp_path: Path, listen: str, wanted: tuple[str, int] | None
) -> None:
    assert settings(tmp_path, f"[metrics]\nlisten = {listen}\n").metrics.listen == wanted


@pytest.mark.parametrize(
    "listen",
    ["0.0.0.0:9794", "192.0.2.1:9794", "[::]:9794", "localhost:9794", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:65536",
     "127.0.0.1:x", ":9794", "9794", "[fe80::1]:9794", "127.0.0.1:\u0661"],
)  # fmt: skip
def test_others_are_refused_with_option_and_value(tmp_path: Path, listen: str) -> None:
    with pytest.raises(ConfigError, match="expected address and port of the loopback device") as caught:
        settings(tmp_path, f"[metrics]\nlisten = {listen}\n")
    assert f"[metrics] listen = {listen!r}" in str(caught.value)


@pytest.mark.parametrize("path", ["dvr-agent.prom", "/var/lib/dvr-agent.txt"])
def test_a_file_that_node_exporter_would_not_read_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(ConfigError, match=r"expected an absolute path that ends with \.prom"):
        settings(tmp_path, f"[metrics]\ntextfile = {path}\n")


def test_open_vswitch_may_keep_the_worker_waiting(tmp_path: Path) -> None:
    text = "[DEFAULT]\ninterface_driver = {}\n[dvr_agent]\nstuck_timeout = 20\n[OVS]\novsdb_timeout = 10\n"
    assert settings(tmp_path, text.format("bridge")).stuck_timeout == 20
    assert settings(tmp_path, text.format("openvswitch")).stuck_timeout == 30
