"""Carries out the jobs of a plan: the one place that defines the order of writes across namespaces.

The jobs come from the planner, in the order in which their namespaces depend on each other.  Post-commit work is noted
before the first write.

Make before lead: what diverts traffic comes after everything on the path to which it leads, in all namespaces; traffic
is no longer led to what is taken away.  So a job that stops anywhere leaves each address on its old path or on the new
one.  What is refused is noted, and everything that does not depend on it goes on (:mod:`dvr_agent.state.missing`).
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import NamedTuple

from dvr_agent.attach.api import AttachDriver
from dvr_agent.errors import KernelError, NamespaceGoneError
from dvr_agent.kernel.api import GratuitousArp, Kernel
from dvr_agent.reconcile.namespace_job import NamespaceJob
from dvr_agent.reconcile.post_commit import PostCommit
from dvr_agent.state.address import Address
from dvr_agent.state.dependency import subject
from dvr_agent.state.diff import Action, Change, TableChange
from dvr_agent.state.filter import FilterRule, Table, TableKey
from dvr_agent.state.link import Link, Port
from dvr_agent.state.missing import Missing, Paths
from dvr_agent.state.order import Phases, Surroundings, find_sides, in_one_go, phases
from dvr_agent.state.route import Route
from dvr_agent.state.rule import Rule
from dvr_agent.state.sides import NO_SIDES
from dvr_agent.state.sysctl import Sysctl
from dvr_agent.state.table_steps import Step, is_by_own_address, switched, table_at, translated_pairs

AddedRoutes = set[tuple[str, int]]
"""(Destination, table) of routes."""
_NO_DESCRIPTOR = frozenset({errno.EMFILE, errno.ENFILE})


def ends_job(error: KernelError) -> bool:
    """True if nothing can go on after an error: another try has to observe again.

    A namespace that is gone: somebody removes what the job relies on.  No descriptor: every further call needs one.
    Errors of netlink's transport (no socket, a send that failed, a lost acknowledgement, an interrupted dump) say
    nothing about any object, so the kernel's state is not known: ``interfaces.apply`` raises no others.  An error of a
    single object, whatever its number, says that this object was refused.  The xtables lock, a driver of layer 2 and
    namespaces that cannot be made are in the way of what needs them, and of nothing else.
    """
    return isinstance(error, NamespaceGoneError) or error.code in _NO_DESCRIPTOR


class Executor:
    """Writes to the kernel and, through the attach driver, to layer 2."""

    def __init__(self, kernel: Kernel, attach: AttachDriver) -> None:
        self._kernel, self._attach = kernel, attach

    def apply(self, jobs: Sequence[NamespaceJob], post_commit: PostCommit, paths: Paths, arp: GratuitousArp) -> Missing:
        """Note the post-commit work, then make the changes; new addresses are announced when all leads to them.

        :returns: what was refused, and what is missing because of it
        :raises DvrError: nothing can go on; earlier changes stay, later ones were not made
        """
        for job in jobs:
            post_commit.note(job.changes)
        if not any(jobs):
            return Missing(paths)
        return self.carry_out(jobs, paths, partial(post_commit.announce, self._kernel, arp))

    def carry_out(
        self,
        jobs: Sequence[NamespaceJob],
        paths: Paths | None = None,
        announce: Callable[[Missing], object] | None = None,
    ) -> Missing:
        """Make the changes of several namespaces.

        :returns: as :meth:`apply`
        :raises DvrError: as :meth:`apply`
        """
        missing = Missing(paths)
        run = _Run(self._kernel, self._attach, jobs, missing, paths or Paths())
        with self._kernel.namespaces.job():
            run.carry_out(announce)
        return missing


class _TableStep(NamedTuple):
    """One commit of a packet filter table."""

    namespace: str
    change: TableChange
    table: Table


class _Run:
    """One call of :meth:`Executor.carry_out`."""

    def __init__(
        self, kernel: Kernel, attach: AttachDriver, jobs: Sequence[NamespaceJob], missing: Missing, paths: Paths
    ) -> None:
        self._kernel, self._attach, self._missing = kernel, attach, missing
        self._jobs = jobs
        self._tables: dict[tuple[str, TableKey], Table] = {}
        self._staying = [job for job in jobs if not job.changes.remove]
        self._changing = [(job, change) for job in self._staying for change in job.changes.tables]
        self._replacing = [(job, change) for job, change in self._changing if change.old.chains]
        pairs: list[tuple[str, str]] = []
        for job, change in self._changing:
            pairs += translated_pairs(job.changes.namespace, (change.old, change.new))
        missing.join(tuple(pairs))
        for job in self._staying:
            missing.expect_leaving(job.changes.namespace, job.changes.items)
        about, added = _rules_and_routes(self._staying)
        led = {*paths.led, *chain.from_iterable(pairs), *about}
        staying = {address for _job, change in self._replacing for address in switched(change)}
        self._sides = find_sides((change for job in self._staying for change in job.changes.items), paths.units)
        self._staged = [
            (job, phases(job.changes.items, self._surroundings(job, led, staying, added)))
            if not job.at_once
            else (job, Phases(late=in_one_go(job.changes.items)))
            for job in self._staying
        ]
        self._removing = [(job, phase) for job, phase in self._staged if phase.removes]
        self._ports = [_ports(job, phase) for job, phase in self._staged]

    def _surroundings(
        self, job: NamespaceJob, led: Collection[str], staying: Collection[str], added: Mapping[str, AddedRoutes]
    ) -> Surroundings:
        return Surroundings(led, self._sides, staying, added.get(job.changes.namespace, ()))

    def carry_out(self, announce: Callable[[Missing], object] | None) -> None:
        """Make the changes: one line for each step of the order."""
        self._make_room()
        self._commit(Step.BUILD)
        for (job, phase), new_ports in zip(self._staged, self._ports, strict=True):
            self._build(job, phase, new_ports)
        self._hold_back()
        self._commit(Step.LEAD)
        self._apply_each((job, phase.lead) for job, phase in reversed(self._staged))
        self._apply_each((job, phase.stop) for job, phase in self._removing)
        self._commit(Step.TURN)
        self._apply_each((job, phase.depart) for job, phase in self._removing)
        if announce is not None:
            announce(self._missing)
        self._apply_each((job, phase.arrive) for job, phase in self._staged)
        self._apply_each((job, phase.unroute) for job, phase in self._removing)
        self._commit(Step.STOP)
        self._apply_each((job, phase.withdraw) for job, phase in self._removing)
        self._commit(Step.END)
        for job, phase in reversed(self._removing):
            self._remove(job, phase.late)
        self._remove_stale_tables()
        self._remove_namespaces()

    def _apply_each(self, due: Iterable[tuple[NamespaceJob, Sequence[Change]]]) -> None:
        for job, changes in due:
            self._apply(job, changes)

    def _make_room(self) -> None:
        for job in self._jobs:
            self._remove(job, job.first)
        self._prepare_ports()
        self._create_namespaces()
        self._apply_each((job, phase.before) for job, phase in reversed(self._removing))

    # --- namespaces ---

    def _create_namespaces(self) -> None:
        for job in self._staying:
            name = job.changes.namespace
            if job.changes.create and not self._missing.lacks_namespace(name):
                self._try(partial(self._kernel.namespaces.create, name), partial(self._missing.refuse_namespace, name))

    def _remove_stale_tables(self) -> None:
        for job in self._staying:
            name = job.changes.namespace
            if job.changes.stale_tables and not self._missing.lacks_tables(name):
                self._try(partial(self._kernel.nftables.remove, name), self._missing.fault)

    def _remove_namespaces(self) -> None:
        for job in self._jobs:
            if job.changes.remove:
                name = job.changes.namespace
                self._try(partial(self._remove_namespace, name), partial(self._missing.refuse_removal, name, [None]))

    def _remove_namespace(self, name: str) -> None:
        self._attach.release(name)
        self._kernel.namespaces.remove(name)

    # --- packet filter tables ---

    def _due(self, step: Step) -> list[_TableStep]:
        """Return the tables that a step changes."""
        due = []
        refused = bool(self._missing)
        # Where there was no table the first step is the only one, unless something was refused since.
        for job, change in self._changing if step is Step.BUILD or refused else self._replacing:
            name = job.changes.namespace
            place = (name, change.new.key)
            if refused and self._missing.lacks_table(*place):
                continue
            present = self._tables.get(place, change.old)
            if not refused and self._is_settled(step, job, change, present):
                continue
            table = self._table_at(step, job, change, present)
            if table is not None and table != present:
                self._tables[place] = table
                due.append(_TableStep(name, change, table))
        return due

    def _is_settled(self, step: Step, job: NamespaceJob, change: TableChange, present: Table) -> bool:
        """True if a step is known to change nothing of a table, while nothing was refused."""
        if self._sides != NO_SIDES:
            return False
        return present is change.new or (step is Step.LEAD and not _own_addresses(job))

    def _table_at(self, step: Step, job: NamespaceJob, change: TableChange, present: Table) -> Table | None:
        """Return a table at a step, None if the step does not change it."""
        if step is Step.BUILD and not change.old.chains:
            return change.new
        own = _own_addresses(job)
        keeps = partial(self._keeps, job.changes.namespace, step, present) if self._missing else _no_rule
        used = present if step > Step.LEAD else Table(*change.new.key)
        return table_at(step, change, own, keeps, partial(self._admits, own, used), self._sides)

    def _admits(self, own: Collection[str], used: Table, rule: FilterRule) -> bool:
        """True if a new rule can be there; one by which traffic is translated already stays."""
        return self._missing.admits_rule(own, rule) or _contains(used, rule)

    def _keeps(self, namespace: str, step: Step, present: Table, rule: FilterRule) -> bool:
        """True if a rule that goes must stay; what a floating IP that changes sides has left does not come back."""
        left = step > Step.TURN and is_by_own_address(rule, self._sides.departing) and not _contains(present, rule)
        return not left and self._missing.keeps_rule(namespace, rule)

    def _commit(self, step: Step) -> None:
        """Commit the tables that a step changes: all at once, and one by one if one of them is refused."""
        possible = []
        for one in self._due(step):
            if self._missing.lacks_namespace(one.namespace):
                self._missing.skip_table(one.change)
            else:
                possible.append(one)
        if not possible:
            return
        try:
            self._commit_now(possible)
        except KernelError as exc:
            if ends_job(exc):
                raise
            alone = len(possible) == 1 or exc.what.startswith("lock ")  # the lock is in the way of all tables
            for one in possible:
                refused = partial(self._missing.refuse_table, one.namespace, one.change)
                if alone:
                    refused(exc)
                else:
                    self._try(partial(self._commit_now, [one]), refused)

    def _commit_now(self, steps: Sequence[_TableStep]) -> None:
        with self._kernel.packet_filter.defer_apply() as pending:
            for step in steps:
                pending.replace(step.namespace, step.table)
        for step in steps:
            self._missing.note_table(step.namespace, step.table)

    # --- ports and objects ---

    def _prepare_ports(self) -> None:
        ports: dict[str, list[Port]] = {}
        for job, new_ports in zip(self._staying, self._ports, strict=True):
            # a fip namespace has two jobs: the shared part, and the slice
            ports.setdefault(job.changes.namespace, []).extend(new_ports)
        if any(ports.values()):
            self._attach.prepare(ports)

    def _build(self, job: NamespaceJob, phase: Phases, ports: Sequence[Port]) -> None:
        name = job.changes.namespace
        if not ports:
            self._apply(job, phase.build)
            return
        first, rest = _split(phase.build)
        self._apply(job, first)
        if not self._missing.lacks_namespace(name):
            self._plug(job, phase, ports)
        self._apply(job, rest)

    def _plug(self, job: NamespaceJob, phase: Phases, ports: Sequence[Port]) -> None:
        """Plug ports: all at once, and one by one if one of them is refused."""
        name = job.changes.namespace
        try:
            self._attach.plug(name, ports)
        except KernelError as exc:
            if ends_job(exc):
                raise
            for port in ports:
                refused = self._refused_port(name, phase, port)
                if len(ports) == 1:
                    refused(exc)
                else:
                    self._try(partial(self._attach.plug, name, [port]), refused)

    def _refused_port(self, namespace: str, phase: Phases, port: Port) -> Callable[[KernelError], None]:
        """Return the function that notes a port's error: a new port lacks its device, a repaired one may have it."""
        for change in phase.build:
            if _new_port(change) == port:
                return partial(self._missing.refuse, namespace, change)
        return partial(self._missing.refuse_repair, namespace, port.device)

    def _hold_back(self) -> None:
        """Hold what must not be led: by a namespace through which no traffic gets, or by something that is missing."""
        for job, phase in self._staged if self._missing else ():
            for change in phase.lead:
                self._missing.takes(job.changes.namespace, change)
            if self._missing.is_broken(job.changes.namespace):
                for change in (*phase.build, *phase.lead):
                    self._missing.hold_new(change)
                for table in job.changes.tables:
                    self._missing.skip_table(table)

    def _remove(self, job: NamespaceJob, changes: Sequence[Change]) -> None:
        name = job.changes.namespace
        if self._missing:
            self._missing.expect_removal(name, changes)
        self._apply(job, [change for change in changes if not job.is_port(change)])
        ports = [change for change in changes if job.is_port(change) and not self._missing.takes(name, change)]
        if ports:
            links = [change.item for change in ports if isinstance(change.item, Link)]
            unplug = partial(self._attach.unplug, name, [link.name for link in links])
            self._try(unplug, partial(self._missing.refuse_removal, name, links))

    def _apply(self, job: NamespaceJob, changes: Sequence[Change]) -> None:
        if not changes:
            return
        name = job.changes.namespace
        if self._missing.lacks_namespace(name):
            for change in changes:
                self._missing.takes(name, change)
        else:
            self._kernel.interfaces.apply(name, changes, self._missing)

    @staticmethod
    def _try(action: Callable[[], object], refused: Callable[[KernelError], None]) -> None:
        try:
            action()
        except KernelError as exc:
            if ends_job(exc):
                raise
            refused(exc)


def _ports(job: NamespaceJob, phase: Phases) -> list[Port]:
    """Return the ports that the attach driver plugs: new ports, and ports with a wrong outer side."""
    new = [_new_port(change) for change in phase.build if type(change.item) is Link]
    return [*(port for port, _ in job.repair), *(port for port in new if port is not None)]


def _split(changes: Iterable[Change]) -> tuple[list[Change], list[Change]]:
    """Return the parameters of the namespace, which devices take over when they come, and the rest without ports."""
    first: list[Change] = []
    rest: list[Change] = []
    for change in changes:
        if isinstance(change.item, Sysctl) and change.item.device is None:
            first.append(change)
        elif not isinstance(change.item, Link) or _new_port(change) is None:
            rest.append(change)
    return first, rest


def _own_addresses(job: NamespaceJob) -> frozenset[str]:
    """Return the addresses that come or go in the namespace."""
    return frozenset(change.item.ip for change in job.changes.items if isinstance(change.item, Address))


def _contains(table: Table, rule: FilterRule) -> bool:
    return any(rule in chain.rules for chain in table.chains)


def _no_rule(_rule: FilterRule) -> bool:
    return False


def _rules_and_routes(jobs: Iterable[NamespaceJob]) -> tuple[set[str], dict[str, AddedRoutes]]:
    """Return the traffic of rules, and namespace → (destination, table) of the routes that are added in it."""
    about: set[str] = set()
    added: dict[str, AddedRoutes] = {}
    for job in jobs:
        changes = job.changes.items
        about |= {subject(change.item) or "" for change in changes if isinstance(change.item, Rule)}
        if Action.REMOVE in [change.action for change in changes]:  # else nobody asks
            new = [change.item for change in changes if change.action is Action.ADD]
            routes = {item.key for item in new if isinstance(item, Route)}
            added.setdefault(job.changes.namespace, set()).update(routes)
    return about - {""}, added


def _new_port(change: Change) -> Port | None:
    origin = change.item.origin if isinstance(change.item, Link) else None
    return origin if isinstance(origin, Port) else None
