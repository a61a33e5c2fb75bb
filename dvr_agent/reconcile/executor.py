"""Carry out a plan: the one place where the order of writes across namespaces is spelled out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dvr_agent.attach.api import AttachDriver
from dvr_agent.kernel.api import Kernel
from dvr_agent.state.diff import Change, Changes
from dvr_agent.state.link import Link, Port
from dvr_agent.state.order import Phases, phases


@dataclass(frozen=True, slots=True)
class Work:
    """One namespace's part of a plan.

    :ivar first: devices that go before anything else: halves of a veth pair, in the way of a whole one
    :ivar repair: ports whose outer side is wrong though the device is there, and what is wrong
    :ivar port_prefixes: devices whose removal is the attach driver's work
    """

    changes: Changes
    first: tuple[Change, ...] = ()
    repair: tuple[tuple[Port, str], ...] = ()
    port_prefixes: tuple[str, ...] = ()


def carry_out(kernel: Kernel, attach: AttachDriver, works: Sequence[Work]) -> None:
    """Make the changes of several namespaces, given in the order in which they depend on each other.

    :raises KernelError: the rest is not done; what is done is right and stays
    """
    staged = [(work, phases(work.changes.items)) for work in works if not work.changes.remove]
    _prepare(attach, staged)
    for work, _ in staged:
        if work.changes.create:
            kernel.namespaces.create(work.changes.namespace)
    for work, _ in staged:
        _apply(kernel, work.changes.namespace, work.first)
    for work, phase in reversed(staged):
        _apply(kernel, work.changes.namespace, phase.early)
    _commit(kernel, staged)
    for work, phase in staged:
        _build(kernel, attach, work, phase)
    for work, phase in reversed(staged):
        _remove(kernel, attach, work, phase.late)
    for work, _ in staged:
        if work.changes.left_over:
            kernel.nftables.remove(work.changes.namespace)
    for work in works:
        if work.changes.remove:
            attach.release(work.changes.namespace)
            kernel.namespaces.remove(work.changes.namespace)


def _prepare(attach: AttachDriver, staged: Iterable[tuple[Work, Phases]]) -> None:
    ports: dict[str, list[Port]] = {}
    for work, phase in staged:  # a shared namespace comes more than once
        ports.setdefault(work.changes.namespace, []).extend(_ports(work, phase))
    if any(ports.values()):
        attach.prepare(ports)


def _commit(kernel: Kernel, staged: Iterable[tuple[Work, Phases]]) -> None:
    if any(work.changes.tables for work, _ in staged):
        with kernel.iptables.defer_apply() as pending:
            for work, _ in staged:
                for table in work.changes.tables:
                    pending.replace(work.changes.namespace, table.new)


def _build(kernel: Kernel, attach: AttachDriver, work: Work, phase: Phases) -> None:
    ports = _ports(work, phase)
    if ports:
        attach.plug(work.changes.namespace, ports)
    _apply(kernel, work.changes.namespace, [change for change in phase.build if _new_port(change) is None])


def _ports(work: Work, phase: Phases) -> list[Port]:
    """Those to be plugged."""
    new = (_new_port(change) for change in phase.build)
    return [*(port for port, _ in work.repair), *(port for port in new if port is not None)]


def _new_port(change: Change) -> Port | None:
    origin = change.item.origin if isinstance(change.item, Link) else None
    return origin if isinstance(origin, Port) else None


def _remove(kernel: Kernel, attach: AttachDriver, work: Work, changes: Sequence[Change]) -> None:
    ports = [change.item.name for change in changes if isinstance(change.item, Link) and _is_port(work, change.item)]
    rest = [change for change in changes if not (isinstance(change.item, Link) and _is_port(work, change.item))]
    _apply(kernel, work.changes.namespace, rest)
    if ports:
        attach.unplug(work.changes.namespace, ports)


def _is_port(work: Work, link: Link) -> bool:
    return link.name.startswith(work.port_prefixes)


def _apply(kernel: Kernel, namespace: str, changes: Sequence[Change]) -> None:
    if changes:
        kernel.interfaces.apply(namespace, changes)
