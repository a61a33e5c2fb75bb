"""Lines in the journal's native protocol, as systemd-python sends them to a socket in the place of the journal's."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("systemd.journal", reason="systemd-python (python3-systemd) is not installed")

ROUTER = "1ea71481-0c58-5b39-8d83-30b053d31c06"
NETWORK = "2ea71481-0c58-5b39-8d83-30b053d31c07"
PROGRAM = f"""
import logging
from dvr_agent import config, logs
logs.setup(config.load(["--config-file", "{{config}}"]))
log = logging.getLogger("dvr_agent.x")
with logs.job_context("{ROUTER}", ["203.0.113.5", "203.0.113.50"], "req-1"):
    log.error("qrouter-{ROUTER}: - iptables -d 203.0.113.50/32 -j DNAT --to-destination 10.0.0.5")
    log.info("of no floating IP: 203.0.113.7, 1.203.0.113.5")
log.warning("router {ROUTER} (web): failed in fip-{NETWORK}: 203.0.113.5")
log.info("ready")
"""
IN_PLACE = """
mount -t tmpfs none /run && mkdir -p /run/systemd/journal && mount --bind "$1" /run/systemd/journal
shift; exec "$@"
"""


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[socket.socket]:
    """The journal's end of its socket."""
    (tmp_path / "journal").mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
        one.bind(str(tmp_path / "journal" / "socket"))
        one.setblocking(False)
        yield one


def entries(journal: socket.socket) -> list[dict[str, str]]:
    """Return the entries that were sent, none of which has a line break."""
    found: list[dict[str, str]] = []
    while True:
        try:
            data = journal.recv(1 << 16)
        except BlockingIOError:
            return found
        found.append(dict(line.split("=", 1) for line in data.decode().splitlines() if "=" in line))


def run(tmp_path: Path, options: str = "", *, in_place: bool = True) -> str:
    """Log some lines in a process whose stderr is the journal; returns what it writes there."""
    (tmp_path / "conf").write_text(f"[DEFAULT]\n{options}\n")
    words = [sys.executable, "-c", PROGRAM.format(config=tmp_path / "conf")]
    if in_place:
        words = ["unshare", "-m", "sh", "-ec", IN_PLACE, "sh", str(tmp_path / "journal"), *words]
    with (tmp_path / "err").open("w+") as err:
        found = os.fstat(err.fileno())
        stream = f"{found.st_dev}:{found.st_ino}"
        subprocess.run(words, stderr=err, stdout=err, check=True, env={**os.environ, "JOURNAL_STREAM": stream})
    return (tmp_path / "err").read_text()


@pytest.mark.root
@pytest.mark.parametrize("options", ["", "use_journal = true\nuse_stderr = false"])
def test_lines_have_the_fields_by_which_an_operator_seeks_them(
    journal: socket.socket, tmp_path: Path, options: str
) -> None:
    assert run(tmp_path, options) == "", "each line is in the journal once"
    first, second, third, fourth = entries(journal)
    assert (first["PRIORITY"], second["PRIORITY"], third["PRIORITY"], fourth["PRIORITY"]) == ("3", "6", "4", "6")
    assert first["ROUTER_ID"] == second["ROUTER_ID"] == third["ROUTER_ID"] == ROUTER
    assert first["REQUEST_ID"] == second["REQUEST_ID"] == "req-1"
    assert (first["FLOATING_IP"], first["NAMESPACE"]) == ("203.0.113.50", f"qrouter-{ROUTER}")
    assert "FLOATING_IP" not in second
    assert third["NAMESPACE"] == f"fip-{NETWORK}"
    assert not {"ROUTER_ID", "NAMESPACE", "FLOATING_IP", "REQUEST_ID"} & fourth.keys()
    assert first["LOGGER_NAME"] == "dvr_agent.x"
    assert "DNAT --to-destination 10.0.0.5" in first["MESSAGE"]


@pytest.mark.root
def test_without_the_journal_s_socket_each_line_has_its_priority(tmp_path: Path) -> None:
    hidden = tmp_path / "journal"
    hidden.mkdir()
    lines = run(tmp_path).splitlines()
    assert [line[:3] for line in lines] == ["<3>", "<6>", "<4>", "<6>"]


@pytest.mark.root
def test_json_lines_stay_on_stderr(journal: socket.socket, tmp_path: Path) -> None:
    lines = run(tmp_path, "use_json = true").splitlines()
    assert len(lines) == 4
    assert entries(journal) == []
