"""Carries out the jobs of a plan: the one place that defines the order of writes across namespaces.

The jobs come from the planner, in the order in which their namespaces depend on each other.  Post-commit work is noted
before the first write.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dvr_agent.attach.api import AttachDriver
from dvr_agent.kernel.api import Kernel
from dvr_agent.reconcile.namespace_job import NamespaceJob
from dvr_agent.reconcile.post_commit import PostCommit
from dvr_agent.state.diff import Change
from dvr_agent.state.link import Link, Port
from dvr_agent.state.order import Phases, phases


class Executor:
    """Writes to the kernel and, through the attach driver, to layer 2."""

    def __init__(self, kernel: Kernel, attach: AttachDriver) -> None:
        self._kernel, self._attach = kernel, attach

    def apply(self, jobs: Sequence[NamespaceJob], post_commit: PostCommit) -> None:
        """Note the post-commit work, then make the changes.

        :raises DvrError: a change failed; earlier changes stay, later ones were not made
        """
        for job in jobs:
            post_commit.note(job.changes)
        if any(jobs):
            self.carry_out(jobs)

    def carry_out(self, jobs: Sequence[NamespaceJob]) -> None:
        """Make the changes of several namespaces: one line for each step of the order.

        :raises DvrError: as :meth:`apply`
        """
        staying = [job for job in jobs if not job.changes.remove]
        staged = [(job, phases(job.changes.items)) for job in staying]
        self._prepare_ports(staged)
        self._create_namespaces(staying)
        for job in staying:
            self._apply(job, job.first)
        for job, phase in reversed(staged):
            self._apply(job, phase.early)
        self._commit_tables(staying)
        for job, phase in staged:
            self._build(job, phase)
        for job, phase in reversed(staged):
            self._remove(job, phase.late)
        self._remove_stale_tables(staying)
        self._remove_namespaces(job for job in jobs if job.changes.remove)

    def _create_namespaces(self, jobs: Iterable[NamespaceJob]) -> None:
        for job in jobs:
            if job.changes.create:
                self._kernel.namespaces.create(job.changes.namespace)

    def _remove_stale_tables(self, jobs: Iterable[NamespaceJob]) -> None:
        for job in jobs:
            if job.changes.stale_tables:
                self._kernel.nftables.remove(job.changes.namespace)

    def _remove_namespaces(self, jobs: Iterable[NamespaceJob]) -> None:
        for job in jobs:
            self._attach.release(job.changes.namespace)
            self._kernel.namespaces.remove(job.changes.namespace)

    def _prepare_ports(self, staged: Iterable[tuple[NamespaceJob, Phases]]) -> None:
        ports: dict[str, list[Port]] = {}
        for job, phase in staged:  # a fip namespace has two jobs: the shared part, and the slice
            ports.setdefault(job.changes.namespace, []).extend(_ports(job, phase))
        if any(ports.values()):
            self._attach.prepare(ports)

    def _commit_tables(self, jobs: Iterable[NamespaceJob]) -> None:
        changed = [job for job in jobs if job.changes.tables]
        if changed:
            with self._kernel.iptables.defer_apply() as pending:
                for job in changed:
                    for table in job.changes.tables:
                        pending.replace(job.changes.namespace, table.new)

    def _build(self, job: NamespaceJob, phase: Phases) -> None:
        ports = _ports(job, phase)
        if ports:
            self._attach.plug(job.changes.namespace, ports)
        self._apply(job, [change for change in phase.build if _new_port(change) is None])

    def _remove(self, job: NamespaceJob, changes: Sequence[Change]) -> None:
        ports = [change for change in changes if _is_port(job, change)]
        self._apply(job, [change for change in changes if not _is_port(job, change)])
        if ports:
            devices = [change.item.name for change in ports if isinstance(change.item, Link)]
            self._attach.unplug(job.changes.namespace, devices)

    def _apply(self, job: NamespaceJob, changes: Sequence[Change]) -> None:
        if changes:
            self._kernel.interfaces.apply(job.changes.namespace, changes)


def _ports(job: NamespaceJob, phase: Phases) -> list[Port]:
    """Return the ports that the attach driver plugs: new ports, and ports with a wrong outer side."""
    new = (_new_port(change) for change in phase.build)
    return [*(port for port, _ in job.repair), *(port for port in new if port is not None)]


def _new_port(change: Change) -> Port | None:
    origin = change.item.origin if isinstance(change.item, Link) else None
    return origin if isinstance(origin, Port) else None


def _is_port(job: NamespaceJob, change: Change) -> bool:
    return isinstance(change.item, Link) and change.item.name.startswith(job.port_prefixes)
