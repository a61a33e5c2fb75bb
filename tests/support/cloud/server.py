"""The server side of the cloud, in the sandbox's own network namespace: RabbitMQ, MariaDB, neutron-server.

neutron-server 29 is an API for a web server (here waitress) and ``neutron-rpc-server``.  ``neutron-periodic-workers``
is left out: of what it does, the L3 agents would only notice that routers of dead agents move, which is switched off.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.support.cloud import config
from tests.support.cloud.api import Api
from tests.support.cloud.process import Process
from tests.support.cloud.sandbox import CHECKOUT, run
from tests.support.waiting import wait_for

VENV = Path(os.environ.get("NEUTRON_VENV", CHECKOUT / ".venv-neutron")).absolute()
RABBITMQ = Path("/usr/lib/rabbitmq/bin")

Step = Callable[[str], None]


def accepts(port: int) -> bool:
    """Somebody listens there."""
    try:
        socket.create_connection((config.SERVER, port), timeout=5).close()
    except OSError:
        return False
    return True


class Server:
    """RabbitMQ, MariaDB, and Neutron's API and RPC server."""

    def __init__(self, folder: Path, logs: Path, rpc_timeout: int) -> None:
        self._folder, self._logs, self._rpc_timeout = folder, logs, rpc_timeout
        self.api = Api(config.SERVER, config.API_PORT)
        self._etc = folder / "etc"
        self._rabbit_home = folder / "rabbit"
        for place in (self._etc, folder / "state" / "lock", self._rabbit_home):
            place.mkdir(parents=True)
        self._options: list[str | Path] = [
            "--config-file",
            self._etc / "neutron.conf",
            "--config-file",
            self._etc / "ml2_conf.ini",
        ]
        self.rabbitmq: Process
        self.mariadb: Process
        self.rpc: Process
        self.wsgi: Process

    def start(self, step: Step) -> None:
        """Returns when the API answers; ``step`` is told what was reached."""
        self._write()
        with ThreadPoolExecutor() as pool:
            broker = pool.submit(self.start_rabbitmq)
            self.start_mariadb()
            step("MariaDB")
            self._schema()
            step("schema")
            self.rpc = self._neutron("neutron-rpc-server", [VENV / "bin/neutron-rpc-server", *self._options])
            self.wsgi = self._neutron(
                "neutron-api",
                [VENV / "bin/python", Path(__file__).with_name("serve_api.py"), config.SERVER, config.API_PORT],
            )
            broker.result()
            step("RabbitMQ")
        self.wait_alive()
        step("neutron-server")

    def _write(self) -> None:
        paste = (VENV / "etc/neutron/api-paste.ini").read_text()
        (self._etc / "api-paste.ini").write_text(paste.replace("/var/lib/neutron", str(self._folder / "state")))
        (self._etc / "neutron.conf").write_text(
            config.neutron_conf("controller", self._folder / "state", self._rpc_timeout, self._etc / "api-paste.ini")
        )
        (self._etc / "ml2_conf.ini").write_text(config.ML2_CONF)
        (self._rabbit_home / "rabbitmq.conf").write_text(config.RABBITMQ_CONF)
        (self._rabbit_home / "plugins").write_text("[].\n")

    def start_rabbitmq(self) -> None:
        """Returns when it takes connections."""
        environment = config.rabbitmq_environment(self._rabbit_home)
        self.rabbitmq = Process(
            "rabbitmq", [RABBITMQ / "rabbitmq-server"], self._logs / "rabbitmq.log", env=environment
        )
        wait_for(lambda: accepts(5672), "RabbitMQ listens")

    def stop_rabbitmq(self) -> None:
        self.rabbitmq.stop()

    def start_mariadb(self) -> None:
        """Returns when it takes connections."""
        data = self._folder / "mysql"
        options = ["--no-defaults", "--user=root", f"--datadir={data}"]
        words = ["mariadb-install-db", *options, "--auth-root-authentication-method=normal", "--skip-test-db"]
        run(*words, "--skip-name-resolve")
        network = [f"--bind-address={config.SERVER}", "--port=3306", f"--socket={self._folder}/mysql.sock"]
        speed = ["--innodb-flush-log-at-trx-commit=0", "--innodb-log-file-size=32M", "--innodb-flush-method=nosync"]
        limits = ["--max-connections=300", "--character-set-server=utf8mb3", f"--pid-file={self._folder}/mysql.pid"]
        mariadbd = shutil.which("mariadbd") or "/usr/sbin/mariadbd"
        self.mariadb = Process("mariadb", [mariadbd, *options, *network, *speed, *limits], self._logs / "mariadb.log")
        wait_for(lambda: accepts(3306), "MariaDB listens")

    def _schema(self) -> None:
        orders = (
            "CREATE DATABASE neutron CHARACTER SET utf8mb3; CREATE USER neutron@'%' IDENTIFIED BY 'secret'; "
            "GRANT ALL ON neutron.* TO neutron@'%';"
        )
        run("mariadb", "--no-defaults", "-u", "root", "-S", f"{self._folder}/mysql.sock", "-e", orders)
        with (self._logs / "schema.log").open("wb") as log:
            words: list[str | Path] = [VENV / "bin/neutron-db-manage", *self._options, "upgrade", "heads"]
            subprocess.run(words, stdout=log, stderr=log, check=True)

    def _neutron(self, name: str, words: list[object]) -> Process:
        environment = {
            "OS_NEUTRON_CONFIG_DIR": str(self._etc),
            "OS_NEUTRON_CONFIG_FILES": "neutron.conf;ml2_conf.ini",
            "PYTHONWARNINGS": "ignore",
        }
        return Process(name, words, self._logs / f"{name}.log", env=environment)

    def wait_alive(self) -> None:
        """The API answers, and the RPC server listens to agents."""

        def alive() -> bool:
            for process in (self.rpc, self.wsgi):
                if not process.running:
                    raise AssertionError(f"{process.name} ended, see {process.log}")
            return self.api.alive()

        wait_for(alive, "the API answers")

    def restart_neutron(self) -> None:
        """Stop and start API and RPC server."""
        for process in (self.rpc, self.wsgi):
            process.stop()
            process.restart()
        self.wait_alive()
