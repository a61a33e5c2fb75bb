"""Stands before every write of a job to the real kernel: counts them, stops the job at one, or refuses it.

A refused netlink request is taken out of its batch, the rest of which the kernel answers itself.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from dvr_agent.attach.api import AttachDriver
from dvr_agent.attach.bridge import BridgeDriver
from dvr_agent.desired.host_settings import HostSettings
from dvr_agent.errors import AttachError, KernelError
from dvr_agent.kernel import sysctl
from dvr_agent.kernel.api import GratuitousArp, Kernel, PendingTables, WriteCounters
from dvr_agent.kernel.linux import open_kernel
from dvr_agent.kernel.netlink.message import Request
from dvr_agent.kernel.netlink.schema import Data
from dvr_agent.kernel.netlink.transport import NetlinkSocket
from dvr_agent.reconcile.reconciler import RouterReconciler
from dvr_agent.state.filter import Table, TableKey
from dvr_agent.state.link import Port
from dvr_agent.state.namespace import Announcement
from dvr_agent.state.sysctl import Sysctl

Exchanged = tuple[list[tuple[int, int, str]], list[Data | None]]
"""What :meth:`NetlinkSocket.exchange` returns."""


class StoppedError(BaseException):
    """The process is killed: nothing that makes the best of an exception may see it."""


class Write(NamedTuple):
    """What is written: kind of object, or of call, and its name for people."""

    kind: str
    namespace: str
    name: object

    def __str__(self) -> str:
        return f"{self.kind} {getattr(self.name, 'text', self.name)} in {self.namespace or 'the host'}"


@dataclass
class Gate:
    """Every write passes by here; one is stopped or refused, the others go on.

    :ivar seen: the writes that came
    :ivar stop_at: number of the write before which the job stops; 0: none
    :ivar refuse_at: number of the write that is refused, and so is every further try of it; 0: none
    :ivar code: errno of the refusal
    """

    seen: list[Write] = field(default_factory=list)
    stop_at: int = 0
    refuse_at: int = 0
    code: int = 0

    def close(self, stop_at: int = 0, refuse_at: int = 0, code: int = 0) -> None:
        """Begin to count anew, with a write to stop at or to refuse."""
        self.seen.clear()
        self.stop_at, self.refuse_at, self.code = stop_at, refuse_at, code

    def open(self) -> None:
        """Let everything pass."""
        self.close()

    @property
    def met(self) -> Write | None:
        """The write that was stopped or refused; None: the job never came there."""
        number = self.stop_at or self.refuse_at
        return self.seen[number - 1] if 0 < number <= len(self.seen) else None

    def refuses(self, kind: str, namespace: str, name: object) -> bool:
        """Count a write; True if it is refused.

        :raises StoppedError: the job ends here
        """
        write = Write(kind, namespace, name)
        self.seen.append(write)
        if len(self.seen) == self.stop_at:
            raise StoppedError
        return bool(self.refuse_at) and self.met == write

    def check(self, kind: str, namespace: str, name: object, error: type[KernelError] = KernelError) -> None:
        """Count a write.

        :raises StoppedError: the job ends here
        :raises KernelError: it is refused
        """
        if self.refuses(kind, namespace, name):
            raise error(namespace, getattr(name, "text", str(name)), self.code)

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Inside the block netlink requests that change something, and parameters, pass by here."""
        exchange, write = NetlinkSocket.exchange, sysctl.write

        def gated_exchange(sock: NetlinkSocket, changes: Sequence[Request], gets: Sequence[Request]) -> Exchanged:
            if not sock.namespace:  # the host: the driver of layer 2, behind a gate of its own
                return exchange(sock, changes, gets)
            if not self.stop_at:
                return self._without_refused(sock, changes, gets, exchange)
            failed: list[tuple[int, int, str]] = []
            for index, request in enumerate(changes):
                self.refuses(*_named(sock, request))
                failed += [(index, code, hint) for _, code, hint in exchange(sock, [request], ())[0]]
            return failed, exchange(sock, (), gets)[1] if gets else []

        def gated_write(
            namespace: str, items: Sequence[Sysctl], counters: WriteCounters, may_lack: bool = False
        ) -> None:
            for item in items:
                self.check("parameter", namespace, item)
                write(namespace, [item], counters, may_lack)

        with (
            mock.patch.object(NetlinkSocket, "exchange", gated_exchange),
            mock.patch.object(sysctl, "write", gated_write),
        ):
            yield

    def _without_refused(
        self, sock: NetlinkSocket, changes: Sequence[Request], gets: Sequence[Request], exchange: Any
    ) -> Exchanged:
        refused = [index for index, one in enumerate(changes) if self.refuses(*_named(sock, one))]
        sent = [index for index in range(len(changes)) if index not in refused]
        found, answers = exchange(sock, [changes[index] for index in sent], gets)
        failed = [(sent[at], code, hint) for at, code, hint in found]
        return sorted([*failed, *((index, self.code, "") for index in refused)]), answers


def _named(sock: NetlinkSocket, request: Request) -> tuple[str, str, object]:
    name = request.what
    return (name if isinstance(name, str) else type(name).__name__).split(" ")[0].lower(), sock.namespace, name


class _Behind:
    """A manager behind the gate: what is not gated is its own."""

    def __init__(self, gate: Gate, inner: Any) -> None:
        self._gate, self._inner = gate, inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class _Namespaces(_Behind):
    def create(self, name: str) -> None:
        self._gate.check("namespace", name, "made")
        self._inner.create(name)

    def remove(self, name: str) -> None:
        self._gate.check("namespace", name, "removed")
        self._inner.remove(name)


class _Tables(_Behind):
    """Commits one table at a time, as the kernel does."""

    @contextmanager
    def defer_apply(self) -> Iterator[PendingTables]:
        collected = _Collected([])
        yield collected
        for namespace, table in collected.found:
            self._gate.check("table", namespace, table)
            with self._inner.defer_apply() as pending:
                pending.replace(namespace, table)


@dataclass
class _Collected:
    found: list[tuple[str, Table]]

    def replace(self, namespace: str, table: Table) -> None:
        self.found.append((namespace, table))

    def withdraw(self, namespace: str, key: TableKey) -> None:
        self.found.append((namespace, Table(*key)))


class _Connections(_Behind):
    def delete(self, namespace: str, address: str) -> int:
        self._gate.check("connections", namespace, address)
        return int(self._inner.delete(namespace, address))

    def drop_untranslated(self, namespace: str, addresses: Sequence[str], inside: Sequence[str]) -> int:
        self._gate.check("connections", namespace, ", ".join(sorted(addresses)))
        return int(self._inner.drop_untranslated(namespace, addresses, inside))


class _Announcer(_Behind):
    def announce(
        self, namespace: str, announcements: Sequence[Announcement], arp: GratuitousArp = GratuitousArp.BOTH
    ) -> None:
        for one in announcements:
            self._gate.check("announcement", namespace, one.address)
            self._inner.announce(namespace, [one], arp)


class _Attach(_Behind):
    def plug(self, namespace: str, ports: Sequence[Port]) -> None:
        for port in ports:
            self._gate.check("port", namespace, port.port_id, AttachError)
            self._inner.plug(namespace, [port])

    def unplug(self, namespace: str, devices: Sequence[str]) -> None:
        for device in devices:
            self._gate.check("port", namespace, f"{device} removed", AttachError)
            self._inner.unplug(namespace, [device])


def open_gated(
    gate: Gate, settings: HostSettings, external_networks: Mapping[str, str], state_path: Path
) -> RouterReconciler:
    """Make a reconciler whose writes pass by the gate, inside of :meth:`Gate.installed`; it has read the kernel."""
    os.makedirs(state_path, exist_ok=True)
    inner = open_kernel()
    kernel, attach = behind(gate, inner, BridgeDriver(external_networks, inner.counters))
    reconciler = RouterReconciler(kernel, attach, settings, state_path)
    reconciler.load()
    return reconciler


def behind(gate: Gate, kernel: Kernel, driver: AttachDriver) -> tuple[Kernel, AttachDriver]:
    """Return kernel and driver with all that they write behind the gate, inside of :meth:`Gate.installed`."""
    managers: dict[str, Any] = {
        "namespaces": _Namespaces(gate, kernel.namespaces),
        "packet_filter": _Tables(gate, kernel.packet_filter),
        "conntrack": _Connections(gate, kernel.conntrack),
        "announcer": _Announcer(gate, kernel.announcer),
    }
    attach: Any = _Attach(gate, driver)
    return replace(kernel, **managers), attach
