"""Files that a person names: pipes of shells are read, and nothing is waited for in vain."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from dvr_agent import config, named_files
from dvr_agent.attach.openvswitch.factory import _ssl_files
from dvr_agent.errors import ConfigError
from dvr_agent.settings import OvsSettings
from tests.support.ctl import ctl_command

DOCUMENT = '{"id": "11111111-1111-4111-8111-111111111111", "distributed": true}'


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return path


def test_fifo_without_a_writer_is_given_up(fifo: Path) -> None:
    with pytest.raises(OSError, match=r"a FIFO to which no process has written for 0\.1 s"):
        named_files.read(str(fifo), 100, patience=0.1)


def test_fifo_is_read_to_its_end_even_if_the_writer_comes_later_and_is_slow(fifo: Path) -> None:
    def write() -> None:
        with fifo.open("wb", buffering=0) as stream:
            for part in (b"one ", b"two ", b"three"):
                stream.write(part)
                released.wait(0.05)

    released = threading.Event()
    writer = threading.Timer(0.05, write)
    writer.start()
    assert named_files.read(str(fifo), 100, patience=60) == b"one two three"
    writer.join()


def test_no_more_is_read_than_allowed(fifo: Path, tmp_path: Path) -> None:
    with os.fdopen(os.open(fifo, os.O_RDWR), "wb", buffering=0) as stream:
        stream.write(b"x" * 100)
        assert named_files.read(str(fifo), 10, patience=60) == b"x" * 10
    (tmp_path / "file").write_bytes(b"y" * 100)
    assert named_files.read(str(tmp_path / "file"), 10) == b"y" * 10


def test_pipe_of_a_shell_that_is_empty_ends_at_once() -> None:
    reader, writer = os.pipe()
    os.close(writer)
    assert named_files.read(f"/dev/fd/{reader}", 10, patience=3600) == b""
    os.close(reader)


@pytest.mark.parametrize(("path", "kind"), [("/dev/zero", "a character device"), ("/dev/tty", "a character device")])
def test_devices_are_not_opened(path: str, kind: str) -> None:
    with pytest.raises(OSError, match=kind):
        named_files.read(path, 10)
    assert named_files.why_not_regular(path) == kind


def test_sockets_and_directories_are_refused(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(tmp_path / "socket"))
        with pytest.raises(OSError, match="a socket"):
            named_files.read(str(tmp_path / "socket"), 10)
    with pytest.raises(IsADirectoryError):
        named_files.read(str(tmp_path), 10)


def test_dev_null_is_a_file_like_others() -> None:
    assert named_files.read("/dev/null", 10) == b""
    assert named_files.why_not_regular("/dev/null") == ""


# -- who uses it


def test_dvrctl_reads_what_shells_give_it(tmp_path: Path) -> None:
    config_file = tmp_path / "dvr-agent.conf"
    config_file.write_text("")
    command = " ".join(ctl_command(config_file, "check"))
    (tmp_path / "a").write_text(DOCUMENT)
    for words in (
        f"{command} <(cat {tmp_path}/a)",
        f"cat {tmp_path}/a | {command} /dev/stdin",
        f"{command} - <{tmp_path}/a",
    ):
        done = subprocess.run(["bash", "-c", words], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr, done.stdout[:3]) == (0, "", "ok ")


def test_dvrctl_check_names_a_fifo_and_goes_on(fifo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dvr_agent.cli.inputs import read_files

    monkeypatch.setattr(named_files.read, "__defaults__", (0.05,))
    (tmp_path / "a").write_text(DOCUMENT)
    found = read_files([str(fifo), "/dev/zero", str(tmp_path / "a")], 1000)
    assert [error.value if error else "" for _, _, error in found.results] == [
        "unreadable (a FIFO to which no process has written for 0.05 s)",
        "unreadable (a character device)",
        "",
    ]


def test_fifo_or_device_as_configuration_is_named_at_once(fifo: Path, tmp_path: Path) -> None:
    for path, kind in ((fifo, "a FIFO"), ("/dev/zero", "a character device")):
        with pytest.raises(ConfigError, match=f"{path}: {kind}: expected a regular file"):
            config.load(["--config-file", str(path)])
    (tmp_path / "conf.d").mkdir()
    os.mkfifo(tmp_path / "conf.d" / "a.conf")
    with pytest.raises(ConfigError, match="a FIFO"):
        config.load(["--config-dir", str(tmp_path / "conf.d")])


def test_configuration_may_come_from_a_pipe_of_a_shell() -> None:
    program = "import sys; from dvr_agent import config; print(config.load(sys.argv[1:]).host)"
    words = f"""{sys.executable} -c '{program}' --config-file <(printf '[DEFAULT]\\nhost = from-a-pipe\\n')"""
    done = subprocess.run(["bash", "-c", words], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("from-a-pipe\n", 0)


def test_fifo_as_key_of_the_ovs_connection_is_named_at_once(fifo: Path) -> None:
    path = str(fifo)
    settings = OvsSettings("br-int", "ssl:127.0.0.1:6640", 10, path, path, path, False, False)
    with pytest.raises(ConfigError, match=r"ssl_key_file = .*: a FIFO: expected a regular file"):
        _ssl_files(settings)
