"""A real RabbitMQ of the tests' own, from the Debian package, in directories of its own: no service, no ``/etc``.

It lives in the network namespace of the thread that first starts it; which must be a private one, since it takes the
ports 5672, 4369 and 25672 there.  In pytest that is the sandbox of the run (``tests.conftest``), so that runs side by
side do not meet.  A test on a fresh host (``lab.fresh_host``) is in another namespace: :meth:`Rabbit.reach` lays a
cable, and ``url`` is the same on both ends.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.support.lab import run

PROGRAMS = Path("/usr/lib/rabbitmq/bin")
ADDRESS = "10.255.0.1"
PORT = 5672
DIE_WITH_US = ["setpriv", "--pdeathsig", "KILL"]
"""A broker must not outlive a test run that was killed."""
STARTED = b"Starting broker... completed"
_cables = itertools.count(1)

CONFIG = """\
listeners.tcp.1 = 0.0.0.0:{port}
default_user = {user}
default_pass = {password}
loopback_users = none
disk_free_limit.absolute = 1MB
log.console = false
log.file.level = warning
"""
ERLANG = (
    "+S 1:1 +SDcpu 1:1 +SDio 1 +A 1 +sbwt none +sbwtdcpu none +sbwtdio none -kernel inet_dist_use_interface {127,0,0,1}"
)


class Cable:
    """From a throw-away host to the broker; used in the host's namespace."""

    def __init__(self, gateway: str) -> None:
        self._gateway = gateway

    def cut(self) -> None:
        """New connections are refused at once, established ones hang."""
        run("ip", "route", "replace", "unreachable", f"{ADDRESS}/32")

    def mend(self) -> None:
        run("ip", "route", "replace", f"{ADDRESS}/32", "via", self._gateway)


class Rabbit:
    """One broker: ``start``, ``kill``, ``restart``, ``stop``, in any order that makes sense.

    :param base: directory for all its files, made if missing
    :ivar url: ``transport_url`` for oslo.messaging, with the password
    """

    def __init__(self, base: Path, password: str = "guest") -> None:
        self.base, self.password = base, password
        self.url = f"rabbit://neutron:{password}@{ADDRESS}:{PORT}/"
        self._broker: subprocess.Popen[bytes] | None = None
        self._mapper: subprocess.Popen[bytes] | None = None

    def start(self) -> Rabbit:
        """Returns when it takes connections (5 s of CPU)."""
        self.base.mkdir(parents=True, exist_ok=True)
        (self.base / "rabbitmq.conf").write_text(CONFIG.format(port=PORT, user="neutron", password=self.password))
        (self.base / "plugins").write_text("[].\n")
        run("ip", "link", "set", "lo", "up")
        run("ip", "addr", "replace", f"{ADDRESS}/32", "dev", "lo")
        if (
            self._mapper is None
        ):  # started by hand, in the foreground: the one of RabbitMQ's own would outlive the tests
            words = [*DIE_WITH_US, "epmd", "-address", "127.0.0.1"]
            self._mapper = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._launch()
        return self

    def restart(self) -> None:
        """Start it again after :meth:`kill` or :meth:`halt`; with its old data."""
        self._launch()

    def kill(self) -> None:
        """As a power failure would: nobody is told, what was not on disk is lost."""
        assert self._broker is not None
        self._broker.kill()
        self._ended()

    def halt(self) -> None:
        """An ordinary stop: clients are told."""
        assert self._broker is not None
        self._broker.terminate()
        self._ended()

    def freeze(self) -> None:
        """It stands still, and its connections with it."""
        assert self._broker is not None
        self._broker.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._broker is not None
        self._broker.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """End all processes."""
        for process in (self._broker, self._mapper):
            if process is not None:
                process.kill()
                process.wait()
                if process.stdout is not None:
                    process.stdout.close()
        self._broker = self._mapper = None

    @contextlib.contextmanager
    def reach(self) -> Iterator[Cable]:
        """Inside the block the calling thread's network namespace reaches the broker, under the same ``url``."""
        assert self._broker is not None
        number = next(_cables)
        near, far, pid = f"mq{number}", f"mqx{number}", self._broker.pid
        here, there = f"10.255.{number % 250 + 1}.2", f"10.255.{number % 250 + 1}.1"
        run("ip", "link", "add", near, "type", "veth", "peer", "name", far, "netns", pid)
        for words in (["addr", "add", f"{there}/30", "dev", far], ["link", "set", far, "up"]):
            run("nsenter", "-t", pid, "-n", "ip", *words)
        run("ip", "addr", "add", f"{here}/30", "dev", near)
        run("ip", "link", "set", near, "up")
        cable = Cable(there)
        cable.mend()
        try:
            yield cable
        finally:
            run("ip", "link", "del", near, check=False)

    def _launch(self) -> None:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.base),  # for the cookie
            "RUNNING_UNDER_SYSTEMD": "1",  # the script becomes the broker, so that its pid is the broker's
            "RABBITMQ_NODENAME": "rabbit@localhost",
            "RABBITMQ_CONF_ENV_FILE": str(self.base / "none"),
            "RABBITMQ_CONFIG_FILE": str(self.base / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.base / "plugins"),
            "RABBITMQ_MNESIA_BASE": str(self.base / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.base / "log"),
            "RABBITMQ_PID_FILE": str(self.base / "pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": ERLANG,
        }
        assert self._mapper is not None
        # Home again, in whatever namespace the calling thread is now.
        home = ["nsenter", "-t", str(self._mapper.pid), "-n", "--"]
        words = [*DIE_WITH_US, *home, str(PROGRAMS / "rabbitmq-server")]
        with (self.base / "stderr").open("ab") as err:
            self._broker = subprocess.Popen(
                words, env=environment, cwd=self.base, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=err
            )
        assert self._broker.stdout is not None
        heard = b""
        while STARTED not in heard:
            more = os.read(self._broker.stdout.fileno(), 4096)
            if not more:
                raise AssertionError(f"RabbitMQ did not start:\n{heard.decode()}{(self.base / 'stderr').read_text()}")
            heard += more

    def _ended(self) -> None:
        assert self._broker is not None
        self._broker.wait()
        if self._broker.stdout is not None:
            self._broker.stdout.close()
