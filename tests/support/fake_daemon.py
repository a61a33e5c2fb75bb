"""The real daemon on a scripted reconciler, for tests of queue, retries, resync, guard, signals and admin socket.

Run as ``python -m tests.support.fake_daemon --config-file …``.  Only the kernel work is replaced: what is "built" is
a file per router in ``<state_path>/built``, every call is a line in ``<state_path>/calls``.  A router's name says how
it behaves: ``fail=3`` fails three times, ``crash=1`` raises something unexpected once, ``sleep=0.5`` takes half a
second asleep, ``burn=20`` takes 20 ms of pure Python, ``hang`` opens the FIFO ``<state_path>/hang`` and so waits in
open(2) for somebody who opens it for writing, ``many=7`` has seven addresses, ``announce`` announces one,
``unserved=2`` has a service that fails twice, ``stuck=2`` (in the file of a built router) twice cannot be removed as
stale.  While ``<state_path>/fail-load`` is there the kernel cannot be read.  What the service is told by its FIFO,
``<state_path>/service``, see :class:`ScriptedService`.
"""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from dvr_agent.cli import agent
from dvr_agent.config import Settings
from dvr_agent.daemon.parts import Parts
from dvr_agent.errors import (
    KernelError,
    NotSupportedError,
    ServiceError,
    ServiceFatalError,
    TablesUnavailableError,
)
from dvr_agent.kernel.api import GratuitousArp, WriteCounters
from dvr_agent.model.router import Router
from dvr_agent.reconcile.api import Plan, RefusedError, Result, RouterPlanner, Traffic
from dvr_agent.services.bundle import Services
from dvr_agent.sources.factory import open_source
from dvr_agent.state.address import Address
from dvr_agent.state.diff import Action, Change, Changes
from dvr_agent.state.namespace import Announcement

ADDRESS = Address("qg-x", "192.0.2.1/32")


class ScriptedService:
    """Reads words from its FIFO: ``exit``: a helper died and the agent shall end; ``trouble=…``: of the whole service;
    anything else is the id of a router that has to be looked at."""

    name = "scripted"

    def __init__(self, state_path: Path) -> None:
        fifo = state_path / "service"
        if not fifo.exists():
            os.mkfifo(fifo)
        self._fifo = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
        self.trouble = ""
        self.tries: dict[str, int] = {}

    def plan(self, router: Router) -> list[str]:
        return []

    def apply(self, router: Router) -> None:
        script = dict(word.partition("=")[::2] for word in router.name.split())
        self.tries[router.id] = self.tries.get(router.id, 0) + 1
        if self.tries[router.id] <= int(script.get("unserved", 0)):
            raise ServiceError("scripted helper does not start")

    def plan_remove(self, router_id: str) -> list[str]:
        return []

    def remove(self, router_id: str) -> None:
        pass

    def routers(self) -> Collection[str]:
        return []

    def fileno(self) -> int:
        return self._fifo

    def changed(self) -> Collection[str]:
        words = os.read(self._fifo, 4096).decode().split()
        if "exit" in words:
            raise ServiceFatalError("scripted helper has died")
        for word in words:
            if word.startswith("trouble="):
                self.trouble = word.removeprefix("trouble=")
        return [word for word in words if "=" not in word]

    def check(self) -> Collection[str]:
        return []

    def status(self) -> dict[str, object]:
        return {"routers": len(self.tries), "trouble": self.trouble, "since": 0.0}

    def close(self) -> None:
        pass


class ScriptedReconciler:
    def __init__(self, state_path: Path) -> None:
        self.calls = (state_path / "calls").open("a", buffering=1)
        self.built = state_path / "built"
        self.tries: dict[str, int] = {}
        self.counters = WriteCounters()
        self.built.mkdir(parents=True, exist_ok=True)
        self.services = Services([ScriptedService(state_path)])
        self.state_path = state_path

    def note(self, *words: object) -> None:
        print(*words, file=self.calls)

    def load(self) -> None:
        self.note("load")
        if (self.state_path / "fail-load").exists():
            raise KernelError("", "links", errno.EPERM, "scripted")

    @property
    def planner(self) -> RouterPlanner:
        return self

    def why_left_alone(self, router: Router) -> str:
        return "no plain distributed router: not supported" if router.ha or not router.distributed else ""

    def has_left(self, router: Router) -> bool:
        return False

    def host_hindrances(self) -> tuple[str, ...]:
        return ()

    def begin_resync(self, documents: Iterable[tuple[str, Router]] = (), trusting: bool = True) -> None:
        self.note("begin_pass")

    def declare(self, documents: Iterable[tuple[str, Router]]) -> None:
        raise NotImplementedError

    def plan(self, router: Router) -> Plan:
        raise NotImplementedError

    def learn(self, router: Router) -> None:
        raise NotImplementedError

    def reconcile(self, router: Router, in_resync: bool = False, document: str = "", trusting: bool = True) -> Result:
        self.note("reconcile", router.id, "pass" if in_resync else "shared")
        started = time.perf_counter()
        if router.ha or not router.distributed:
            raise NotSupportedError(f"{self.why_left_alone(router)}, left alone")
        script = dict(word.partition("=")[::2] for word in router.name.split())
        if "hang" in script:
            (self.state_path / "hang").read_text()
        self._behave(router.id, script)
        file = self.built / router.id
        new, same = not file.exists(), file.exists() and file.read_text() == router.name
        trouble = self.services.apply(router)
        if same:
            return Result(Plan(f"router {router.id}"), time.perf_counter() - started, trouble=trouble)
        file.write_text(router.name)
        self.counters.netlink += 1
        more = [Address("qg-x", f"192.0.2.{number}/32") for number in range(2, int(script.get("many", 1)) + 1)]
        items = tuple(Change(Action.ADD, item) for item in (ADDRESS, *more))
        changes = Changes(f"qrouter-{router.id}", create=new, items=items)
        announced = ((changes.namespace, Announcement("qg-x", "192.0.2.1", ADDRESS)),) if "announce" in script else ()
        plan = Plan(f"router {router.id}", (changes,))
        arp = GratuitousArp.REQUEST if in_resync else GratuitousArp.BOTH
        return Result(plan, time.perf_counter() - started, announced, trouble=trouble, arp=arp)

    def _behave(self, router_id: str, script: dict[str, str]) -> None:
        self.tries[router_id] = self.tries.get(router_id, 0) + 1
        time.sleep(float(script.get("sleep", 0)))  # the work that takes time without the processor
        until = time.thread_time() + float(script.get("burn", 0)) / 1e3
        while time.thread_time() < until:
            sum(range(100))
        if self.tries[router_id] <= int(script.get("crash", 0)):
            raise ZeroDivisionError("scripted")
        if self.tries[router_id] <= int(script.get("fail", 0)):
            raise KernelError("qrouter-x", "route 192.0.2.0/24", 22, "scripted")

    def find_changed_tables(self, router_ids: Collection[str]) -> list[str]:
        self.note("check_tables", len(router_ids))
        return []

    def read_traffic(self, router_ids: Collection[str]) -> list[Traffic]:
        return []

    def remove(self, router_id: str) -> Result:
        self.note("remove", router_id)
        return self._removed(f"router {router_id}", [router_id])

    def _removed(self, subject: str, ids: Sequence[str]) -> Result:
        there = [router_id for router_id in ids if (self.built / router_id).exists()]
        for router_id in there:
            (self.built / router_id).unlink()
        return Result(Plan(subject, tuple(Changes(f"qrouter-{router_id}", remove=True) for router_id in there)), 0.0)

    def plan_remove(self, router_id: str) -> Plan:
        raise NotImplementedError

    def plan_stale(self, known: Collection[str]) -> Plan:
        raise NotImplementedError

    def stale_routers(self, known: Collection[str]) -> tuple[Sequence[str], int]:
        present = sorted(file.name for file in self.built.iterdir())
        return [router_id for router_id in present if router_id not in known], len(present)

    def remove_stale(self, known: Collection[str]) -> Result:
        self.note("remove_stale")
        stale = self.stale_routers(known)[0]
        stuck = [router_id for router_id in stale if self._is_stuck(self.built / router_id)]
        result = self._removed("stale objects", [router_id for router_id in stale if router_id not in stuck])
        if stuck:
            errors = [KernelError(f"qrouter-{router_id}", "namespace", errno.EBUSY, "scripted") for router_id in stuck]
            raise RefusedError(errors, (), replace(result, staying=frozenset(stuck)))
        return result

    @staticmethod
    def _is_stuck(file: Path) -> bool:
        """True as often as the built router's ``stuck=…`` says."""
        left = int(file.read_text().partition("stuck=")[2] or 0)
        file.write_text(f"stuck={left - 1}" if left > 1 else "")
        return left > 0

    def idle_bridges(self, networks: Collection[str], plan: Plan) -> list[str]:
        raise NotImplementedError

    def remove_bridges(self, networks: Collection[str] = (), await_teardown: bool = False) -> list[str]:
        self.note("remove_bridges", *sorted(networks))
        return []

    def flush(self) -> None:
        self.note("flush")


def open_parts(settings: Settings) -> Parts:
    """Open the scripted reconciler and the configured source."""
    if os.environ.get("FAKE_KERNEL_WITHOUT_TABLES"):
        raise TablesUnavailableError("", "table nat", errno.ENOENT, "this kernel has no legacy tables")
    reconciler = ScriptedReconciler(settings.state_path)

    def announce(namespace: str, announcements: Sequence[Announcement], arp: GratuitousArp) -> None:
        reconciler.note("announce", namespace, *(one.address for one in announcements), str(arp.name))

    return Parts(reconciler, open_source(settings), reconciler.services, announce, reconciler.counters)


if __name__ == "__main__":
    sys.exit(agent.main(open_parts=open_parts))
