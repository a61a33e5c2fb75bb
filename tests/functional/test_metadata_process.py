"""dvr-metadata-proxy as a process: its control socket's file, its user, its signals, its modules."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.support.lab import Host
from tests.support.metadata_proxy import PATIENCE, Agent, Proxy, get, listener
from tests.support.metadata_rig import R1, Rig
from tests.support.metadata_upstream import Upstream
from tests.support.waiting import wait_for

pytest_plugins = ("tests.support.metadata_rig",)


def test_the_file_is_for_its_user_only_and_that_of_a_dead_process_is_replaced(rig: Rig) -> None:
    assert stat.S_IMODE(rig.proxy.control.stat().st_mode) == 0o600
    rig.proxy.kill()
    assert rig.proxy.control.exists()
    rig.proxy.start()
    assert rig.proxy.agent().ask("list")["routers"] == {}


def test_a_second_process_is_refused_and_the_first_goes_on(rig: Rig) -> None:
    rig.proxy.agent()
    first, second = rig.proxy.process, rig.proxy.launch()
    rig.proxy.process = first
    assert second.wait(PATIENCE) == 1
    assert f"another dvr-metadata-proxy runs with [metadata_proxy] control_socket = {rig.proxy.control}" in (
        rig.proxy.log.read_text()
    )
    assert rig.proxy.agent().ask("hello")["pid"] == first.pid


def test_no_other_user_can_keep_it_from_starting(rig: Rig) -> None:
    """Whoever can open a directory can flock(2) it."""
    folder = rig.proxy.control.parent
    rig.proxy.kill()
    lock = folder / "control.sock.lock"
    assert stat.S_IMODE(lock.stat().st_mode) == 0o600
    directory = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        rig.proxy.start()
        assert rig.proxy.agent().ask("hello")["ok"]
        rig.proxy.terminate()
        assert rig.proxy.process.wait(PATIENCE) == 0
    finally:
        os.close(directory)
    assert not rig.proxy.control.exists()


def test_a_lock_that_is_held_for_ever_is_an_error_and_no_hang(rig: Rig) -> None:
    rig.proxy.kill()
    with (rig.proxy.control.parent / "control.sock.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert rig.proxy.launch().wait(PATIENCE) == 1
    assert "another process holds the lock" in rig.proxy.log.read_text()
    rig.proxy.start()


def test_what_is_no_socket_is_left_alone(rig: Rig) -> None:
    rig.proxy.terminate()
    assert rig.proxy.exit_code() == 0
    rig.proxy.control.write_text("precious")
    assert rig.proxy.launch().wait(PATIENCE) == 1
    assert rig.proxy.control.read_text() == "precious"


def test_a_bad_option_is_told_in_one_line(rig: Rig) -> None:
    rig.proxy.config.write_text("[metadata_proxy]\nmax_body_size = much\n")
    words = [sys.executable, "-m", "dvr_agent.metadata_proxy.main", "--config-file", str(rig.proxy.config)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == os.EX_CONFIG
    assert f"{rig.proxy.config}: [metadata_proxy] max_body_size = 'much': expected an integer" in done.stderr
    assert "Traceback" not in done.stderr


def test_no_configuration_is_read_that_nobody_named(tmp_path: Path) -> None:
    """Those of the agent are closed to its user: it would never start."""
    folder = tmp_path / ".dvr-agent"
    (folder / "dvr-agent.conf.d").mkdir(parents=True)
    (folder / "dvr-metadata-proxy.conf.d").mkdir()
    for name in ("dvr-agent.conf", "dvr-agent.conf.d/10.conf", "dvr-metadata-proxy.conf.d/10.conf"):
        (folder / name).write_text("no configuration")
    control = tmp_path / "control.sock"
    words = [sys.executable, "-m", "dvr_agent.metadata_proxy.main"]
    environment = {**os.environ, "HOME": str(tmp_path), "OS_METADATA_PROXY__CONTROL_SOCKET": str(control)}
    process = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        wait_for(lambda: control.exists() or process.poll() is not None, "it listens")
        if process.poll() is None:
            Agent(control).ask("hello", version=1)  # now it handles signals, too
        process.send_signal(signal.SIGTERM)
        printed, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, printed
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2])
def test_no_signal_of_operators_ends_it(rig: Rig, number: signal.Signals) -> None:
    rig.proxy.process.send_signal(number)
    if number is signal.SIGUSR2:
        wait_for(lambda: "Current thread" in rig.proxy.log.read_text(), "stacks are written to stderr")
    assert rig.proxy.agent().ask("hello")["pid"] == rig.proxy.process.pid


def test_it_ends_when_the_agent_says_so(rig: Rig) -> None:
    assert rig.proxy.agent().ask("end") == {"ok": True}
    assert rig.proxy.exit_code() == 0
    assert not rig.proxy.control.exists()


@pytest.mark.root
def test_other_users_are_turned_away(host: Host) -> None:
    tmp = Path(tempfile.mkdtemp())
    upstream = Upstream(tmp / "upstream")
    proxy = Proxy(tmp, upstream.path)
    try:
        for path, mode in ((tmp, 0o755), (proxy.control.parent, 0o755), (proxy.control, 0o666)):
            path.chmod(mode)
        ask = (
            "import socket, sys; s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); s.connect(sys.argv[1])\n"
            'try: s.send(b\'{"do": "hello"}\'); print(s.recv(100))\nexcept OSError: print(b"")'
        )
        for user, told in ((65534, False), (0, True)):
            done = subprocess.run(
                ["/usr/bin/python3", "-c", ask, str(proxy.control)],
                capture_output=True,
                text=True,
                user=user,
                check=True,
                timeout=PATIENCE,
            )
            assert ("ok" in done.stdout) is told
    finally:
        proxy.close()
        upstream.stop()
        shutil.rmtree(tmp)


def test_systemd_is_told(tmp_path: Path, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.settimeout(PATIENCE)
    manager.bind(str(tmp_path / "notify"))
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    proxy = Proxy(tmp_path, tmp_path / "nobody")
    try:
        assert manager.recv(1000).startswith(b"READY=1")
        proxy.process.send_signal(signal.SIGINT)
        assert manager.recv(1000).startswith(b"STOPPING=1")
        assert proxy.exit_code() == 0
    finally:
        proxy.close()


AS_NOBODY = """
import os, sys
from dvr_agent.metadata_proxy import main
import dvr_agent.metadata.settings, encodings.idna, h11, logging.handlers
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
sys.exit(main.main(sys.argv[1:]))
"""


@pytest.mark.root
def test_a_user_without_any_rights_is_enough(tmp_path: Path, host: Host) -> None:
    """Root opens the sockets and hands them over; the process itself is nobody, with no capabilities."""
    folder = Path(tempfile.mkdtemp(dir="/run"))  # pytest's own folders are closed to others
    folder.chmod(0o755)
    run = folder / "run"
    run.mkdir()
    os.chown(run, 65534, 65534)
    upstream = Upstream(folder / "upstream")
    upstream.path.chmod(0o666)
    (folder / "conf").write_text(
        f"[DEFAULT]\nmetadata_proxy_socket = {upstream.path}\n[metadata_proxy]\ncontrol_socket = {run}/control.sock\n"
    )
    words = [sys.executable, "-c", AS_NOBODY, "--config-file", str(folder / "conf")]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log)
    try:
        wait_for((run / "control.sock").exists, "it listens")
        agent = Agent(run / "control.sock")
        one = listener()
        agent.serve(R1, [one])
        assert get(one)[0] == 200
        status = Path(f"/proc/{process.pid}/status").read_text()
        assert "\nUid:\t65534\t65534\t65534\t65534\n" in status
        assert "\nCapEff:\t0000000000000000\n" in status
        upstream.path.chmod(0o600)
        assert get(one)[0] == 503
        assert "Permission denied" in agent.ask("status")["upstream"]["last_error"]["what"]
        agent.close()
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
        assert "Permission denied" in (tmp_path / "log").read_text()
    finally:
        process.kill()
        process.wait()
        upstream.stop()
        shutil.rmtree(folder)


# --- its modules ------------------------------------------------------------------------------------------------------

WRITES_MODULES = """
import sys
from dvr_agent.metadata_proxy import main
code = main.main(sys.argv[2:])
open(sys.argv[1], "w").write("\\n".join(sys.modules))
sys.exit(code)
"""
AGENTS = ("services", "kernel", "attach", "sources", "reconcile", "daemon", "cli", "model", "state")
"""Packages of dvr-agent that a process which talks to instances has no business with."""


def test_the_running_process_has_loaded_nothing_of_the_agent(tmp_path: Path, rig: Rig) -> None:
    rig.proxy.terminate()
    assert rig.proxy.exit_code() == 0
    modules = tmp_path / "modules"

    def is_up() -> bool:
        with contextlib.suppress(OSError):
            rig.proxy.agent()
            return True
        return False

    words = [sys.executable, "-c", WRITES_MODULES, str(modules), "--config-file", str(rig.proxy.config)]
    process = subprocess.Popen(words)
    try:
        wait_for(is_up)
        rig.proxy.agent().serve(R1, [rig.one])
        assert get(rig.one)[0] == 200
    finally:
        process.terminate()
        process.wait(PATIENCE)
    loaded = modules.read_text().split()
    assert "dvr_agent.metadata_proxy.client_connection" in loaded
    assert [one for one in loaded if one.startswith(tuple(f"dvr_agent.{name}" for name in AGENTS))] == []
    assert {one.partition(".")[0] for one in loaded} & {
        "pyroute2",
        "iptc",
        "ovs",
        "eventlet",
        "oslo_messaging",
    } == set()
