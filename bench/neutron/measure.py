"""The measurements of one agent on one host: empty host, restart, one floating IP, a router deleted.

"ACTIVE" is read from the server's database, which is what its API would say, without the API's own share of the CPU.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from bench.neutron.kernel_watch import RuleWatch
from bench.neutron.tenants import Tenant, Tenants
from tests.support.cloud.api import Api
from tests.support.cloud.config import SERVER
from tests.support.cloud.host import Host
from tests.support.cloud.sandbox import FOLDER
from tests.support.cloud.server import VENV
from tests.support.cloud.usage import Usage
from tests.support.service_manager import ServiceManager
from tests.support.waiting import wait_for

OURS, REFERENCE = "dvr-agent", "neutron-l3-agent"
QUIET_SECONDS, QUIET_EACH, QUIET_SHARE = 12.0, 0.3, 0.03
"""An agent that uses less of one core for so long, or for so long for each router, has nothing to do.  Less could be
neutron-l3-agent's first sleep (periodic_fuzzy_delay), or the time until the server has described all routers."""
PATIENCE = 900.0
ASSOCIATIONS = 5


@dataclass(slots=True)
class Work:
    """What some work took.

    :ivar wall: seconds until it was done, as the case defines it
    :ivar cpu: seconds until the agent was quiet again
    :ivar processes: started, without the agent itself
    :ivar rss: bytes, at the peak
    :ivar pss: bytes, at the end
    """

    wall: float
    cpu: float
    processes: int
    rss: int
    pss: int


@dataclass(slots=True)
class Association:
    """One floating IP, seconds after the API was called: answered, cast here, rule in the kernel, ACTIVE.

    :ivar server: seconds between cast and rule in which the agent waited for the server's answer to ``sync_routers``;
        0 if the agent does not tell
    """

    api: float
    cast: float
    server: float
    rule: float
    active: float

    @property
    def on_host(self) -> float:
        """Seconds from the cast to the rule."""
        return self.rule - self.cast

    @property
    def own(self) -> float:
        """Seconds from the cast to the rule without waiting for the server: what the agent itself takes."""
        return self.on_host - self.server


@dataclass(slots=True)
class Figures:
    """Everything of one agent with one number of routers; ``delete_*``: a router with 10 floating IPs is gone."""

    agent: str
    routers: int
    cold: Work
    restart: Work
    associations: list[Association] = field(default_factory=list)
    delete_all: float = 0.0
    delete_last: float = 0.0

    def association(self, value: Callable[[Association], float]) -> float:
        """The median of a value that each floating IP has."""
        return median(map(value, self.associations))


class Database:
    """Questions to the server's database, through one client that stays connected."""

    def __init__(self) -> None:
        words = ["mariadb", "--no-defaults", "-u", "root", "-S", f"{FOLDER}/mysql.sock", "-N", "-B", "-n", "neutron"]
        self._client = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def number(self, question: str) -> int:
        """The one number that answers it."""
        assert self._client.stdin is not None
        assert self._client.stdout is not None
        self._client.stdin.write(f"{question};\n")
        self._client.stdin.flush()
        return int(self._client.stdout.readline())

    def forget_statuses(self) -> None:
        """Every floating IP is DOWN, as if no agent had ever been."""
        self.number("UPDATE floatingips SET status = 'DOWN'; SELECT 0")

    def inactive(self) -> int:
        return self.number("SELECT COUNT(*) FROM floatingips WHERE status != 'ACTIVE'")


class Ear:
    """Knows when casts for the host's agent arrive at the broker."""

    def __init__(self, host: str) -> None:
        script = Path(__file__).with_name("cast_ear.py")
        words = [str(VENV / "bin/python"), str(script), f"amqp://neutron:secret@{SERVER}:5672//", host]
        self._ear = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        assert self._ear.stdout is not None
        self._lines = self._ear.stdout
        if self._lines.readline() != "listening\n":
            raise AssertionError("nobody listens to casts")

    def heard(self, since: float) -> float:
        """When the first cast after ``since`` came."""
        for line in self._lines:
            if (at := float(line.split()[0])) >= since:
                return at
        raise AssertionError("the ear is deaf")

    def close(self) -> None:
        self._ear.kill()
        self._ear.wait()


def start(host: Host, agent: str, usage: Usage, manager: ServiceManager) -> None:
    if agent == OURS:
        host.start_dvr_agent(usage, manager)
    else:
        host.start_neutron_l3(usage)


def stop(host: Host) -> None:
    assert host.l3 is not None
    host.l3.stop()


def quiet(usage: Usage, began: float, routers: int) -> float:
    """Wait until the agent has nothing to do; returns how many seconds after ``began`` that began."""
    patience = max(QUIET_SECONDS, QUIET_EACH * routers)
    marks = [(time.monotonic(), usage.cpu_seconds())]
    while True:
        time.sleep(0.25)
        marks.append((time.monotonic(), usage.cpu_seconds()))
        recent = [mark for mark in marks if mark[0] >= marks[-1][0] - patience]
        span = recent[-1][0] - recent[0][0]
        if span > patience - 0.5 and recent[-1][1] - recent[0][1] < QUIET_SHARE * span:
            return recent[0][0] - began
        if marks[-1][0] - began > PATIENCE:
            raise AssertionError("the agent does not come to rest")


def start_up(
    host: Host,
    agent: str,
    routers: int,
    done: Callable[[], bool] | None,
    say: Callable[[str], None],
    manager: ServiceManager,
) -> Work:
    """Start the agent and leave it running; ``wall`` counts until ``done``, or else until it is quiet."""
    with Usage(host.accounting) as usage:
        began = time.monotonic()
        start(host, agent, usage, manager)
        if done:
            wait_for(done, "all floating IPs are ACTIVE", PATIENCE, every=0.1)
        wall = time.monotonic() - began
        rest = quiet(usage, began, routers)
        work = Work(wall if done else rest, usage.cpu_seconds(), usage.processes_started(), 0, usage.pss())
        work.rss = max(usage.peak_rss, usage.rss())
        say(f"wall {work.wall:.1f} s, quiet after {rest:.1f} s, {work.cpu:.2f} CPU s, {work.processes} processes")
        stop(host)
        return work


def associate(host: Host, agent: str, tenant: Tenant, tenants: Tenants, api: Api, external: str) -> list[Association]:
    """New floating IPs for new ports of one router, one after the other; the agent runs."""
    database, ear, found = Database(), Ear(host.name), []
    for _ in range(ASSOCIATIONS):
        port = tenants.add_port(tenant)
        floating = api.floating_ip(external)
        tenant.floating_ips.append(floating)
        time.sleep(1)  # what the new port set off is over
        watch = RuleWatch(host.netns(f"qrouter-{tenant.router}"), floating["floating_ip_address"], legacy=agent == OURS)
        began = time.time()
        api.update("floatingips", floating["id"], port_id=port["id"])
        answered = time.time()
        rule = watch.join()
        question = f"SELECT COUNT(*) FROM floatingips WHERE status = 'ACTIVE' AND id = '{floating['id']}'"
        wait_for(lambda question=question: database.number(question), "it is ACTIVE", every=0.01)
        active = time.time()
        cast = ear.heard(began)
        server = last_answer(host) if agent == OURS else 0.0
        one = Association(answered - began, cast - began, server, rule - began, active - began)
        log(f"cast → rule {one.on_host:.3f} s, the server {one.server:.3f} s, the agent itself {1e3 * one.own:.1f} ms")
        found.append(one)
    ear.close()
    return found


def last_answer(host: Host) -> float:
    """Seconds until the server had answered dvr-agent's last ``sync_routers``."""
    seconds: float = host.dvr_status()["source"]["bus"]["calls"]["seconds"]["sync_routers"]["last"]
    return seconds


def delete(host: Host, tenant: Tenant, tenants: Tenants) -> tuple[float, float]:
    """A router with its floating IPs; seconds until its namespaces are gone, after the first and the last API call."""
    names = {f"qrouter-{tenant.router}", f"snat-{tenant.router}"}
    began = time.monotonic()
    tenants.delete_router(tenant)
    called = time.monotonic()
    wait_for(lambda: not any(Path(host.netns(name)).exists() for name in names), "its namespaces are gone", every=0.01)
    gone = time.monotonic()
    tenants.delete_rest(tenant)
    return gone - began, gone - called


def log(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)
