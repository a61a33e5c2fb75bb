"""Our part of the packet filter tables of any namespace: read, replaced in one commit per table, printed.

Reading goes straight to the kernel (:mod:`.reader`), writing by libiptc (:mod:`.binding`), what lies between is pure
(:mod:`.blob`, :mod:`.edit`, :mod:`.entry`, :mod:`.save`).  The reconciler uses it as its
:class:`~dvr_agent.kernel.api.IptablesManager`.

Chains and rules of others are never touched, with two exceptions: rules in built-in chains that lead to a chain which
has to go, and the chains that the reference agent left behind, which go with the first commit of ours to their table.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from dvr_agent.errors import KernelError
from dvr_agent.kernel.api import WriteCounters
from dvr_agent.kernel.iptables.binding import Handle, library
from dvr_agent.kernel.iptables.blob import Snapshot, is_leftover
from dvr_agent.kernel.iptables.edit import Edit, edit_script
from dvr_agent.kernel.iptables.entry import check_chain_name, encode
from dvr_agent.kernel.iptables.layout import BUILTINS
from dvr_agent.kernel.iptables.lock import TIMEOUT, XTABLES_LOCK, xtables_lock
from dvr_agent.kernel.iptables.reader import Namespaces, NamespaceTables, TableReader
from dvr_agent.kernel.iptables.save import save_text
from dvr_agent.state.filter import CHAIN_PREFIX, Family, FilterRule, Jump, Table, TableKey

COMMIT_TRIES = 4
"""A table that changes between its reading and its commit is read and edited again, three times at most."""
FAMILIES: tuple[Family, ...] = (4, 6)


class LibiptcManager:
    """Packet filter tables by libiptc.

    Safe for several threads: writers queue for the lock that iptables uses.  It covers all namespaces of the host, so a
    lock per namespace would add nothing.

    :param namespaces: the way into them
    :param counters: told about every commit
    :param lock_path: lock file shared with all iptables programs of the host
    :param lock_timeout: seconds to wait for it
    """

    def __init__(
        self,
        namespaces: Namespaces,
        counters: WriteCounters,
        lock_path: str = XTABLES_LOCK,
        lock_timeout: float = TIMEOUT,
    ) -> None:
        self._namespaces = namespaces
        self._counters = counters
        self._reader = TableReader(namespaces)
        self._lock_path, self._lock_timeout = lock_path, lock_timeout

    def observe(self, namespace: str, tables: Iterable[TableKey]) -> tuple[Table, ...]:
        """Our part of each named table, in the order asked for; left-overs of the reference agent show as chains.

        A table that the namespace does not have yet is empty, and is not made by looking at it.

        :raises NamespaceGoneError: there is no such namespace
        """
        keys = tuple(tables)
        with self._reader.open(namespace, keys) as opened:
            return tuple(opened.read(key).table for key in keys)

    def save(self, namespace: str) -> str:
        """Our chains in all tables of both families, in iptables-save syntax; empty if there are none.

        Rules that somebody else put into our chains and we have no word for are shown as comments.
        """
        return save_text(self.observe(namespace, [(family, name) for family in FAMILIES for name in BUILTINS]))

    @contextlib.contextmanager
    def defer_apply(self) -> Iterator[Pending]:
        """Collect changes; at the end of the block commit each table that differs once, and no other.

        An exception inside the block applies nothing, and so does a rule that cannot be expressed.  If the kernel
        refuses a table, it stays as it was; tables committed before it stay committed, those after it are left alone.

        :raises KernelError: naming namespace, table and, if it is known, the rule; EBUSY: the lock was not free
        :raises TablesUnavailableError: the kernel has no such tables
        """
        pending = Pending()
        yield pending
        if not pending.tables:
            return
        with xtables_lock(self._lock_path, self._lock_timeout), contextlib.ExitStack() as closing:
            work = [self._plan(namespace, pending, closing) for namespace in pending.namespaces()]
            for jobs in work:
                self._commit_all(jobs)

    def _plan(self, namespace: str, pending: Pending, closing: contextlib.ExitStack) -> list[_Job]:
        """The tables of a namespace that differ from what they should be, ready to be written."""
        desired = pending.of(namespace)
        opened = closing.enter_context(self._reader.open(namespace, (table.key for table in desired)))
        jobs = [_Job(opened, table, (namespace, table.key) in pending.withdrawn) for table in desired]
        return [job for job in jobs if job.plan(opened.read(job.desired.key))]

    def _commit_all(self, jobs: list[_Job]) -> None:
        """Commit the tables of one namespace; libiptc reads them all in one window."""
        with contextlib.ExitStack() as closing:
            for job, handle in zip(jobs, self._handles(jobs, closing), strict=True):
                self._commit(job, handle, closing)

    def _commit(self, job: _Job, handle: Handle, closing: contextlib.ExitStack) -> None:
        """Bring one table to what it should be.  Somebody who changes it without the lock makes us start again."""
        for tries_left in reversed(range(COMMIT_TRIES)):
            if not job.plan(job.opened.read_existing(job.desired.key)):
                return
            try:
                _perform(handle, job)
                handle.commit(job.summary)
            except KernelError as exc:
                if exc.code != errno.EAGAIN or not tries_left:
                    raise
            else:
                self._counters.commits += 1
                return
            handle = self._handles([job], closing)[0]

    def _handles(self, jobs: list[_Job], closing: contextlib.ExitStack) -> list[Handle]:
        """What libiptc makes of each table now."""
        if not jobs:
            return []
        namespace = jobs[0].opened.namespace
        for job in jobs:
            library(job.desired.family)  # the import must not happen inside the window
        with self._namespaces.enter(namespace):
            return [closing.enter_context(Handle(namespace, job.desired.key)) for job in jobs]


@dataclass(slots=True)
class Pending:
    """Changes collected inside a ``defer_apply()`` block: a :class:`~dvr_agent.kernel.api.PendingTables`."""

    tables: dict[tuple[str, TableKey], Table] = field(default_factory=dict)
    withdrawn: set[tuple[str, TableKey]] = field(default_factory=set)

    def replace(self, namespace: str, table: Table) -> None:
        """Our part of this table shall be exactly ``table`` at the end of the block; the last word counts.

        :raises KernelError: EINVAL, the table is not one that can be ours
        """
        try:
            check_table(table)
        except ValueError as exc:
            raise KernelError(namespace, table.text, errno.EINVAL, str(exc)) from exc
        self.tables[namespace, table.key] = table
        self.withdrawn.discard((namespace, table.key))

    def withdraw(self, namespace: str, key: TableKey) -> None:
        """What we made in this table shall be gone at the end of the block; left-overs of the other agent stay."""
        self.replace(namespace, Table(*key))
        self.withdrawn.add((namespace, key))

    def namespaces(self) -> list[str]:
        """Sorted."""
        return sorted({namespace for namespace, _key in self.tables})

    def of(self, namespace: str) -> list[Table]:
        """The tables of one namespace, in the order they were named."""
        return [table for (found, _key), table in self.tables.items() if found == namespace]


@dataclass(slots=True)
class _Job:
    """One table that has to change: what was read, what has to be done, and the entries of its insertions."""

    opened: NamespaceTables
    desired: Table
    withdraw: bool = False
    snapshot: Snapshot | None = None
    edit: Edit = field(default_factory=Edit)
    entries: list[bytes] = field(default_factory=list)

    def plan(self, snapshot: Snapshot) -> bool:
        """Work out the edit from a snapshot; False if there is nothing to do.

        Rules that are there already are not compiled: they have been right once.

        :raises KernelError: EINVAL, a new rule cannot be expressed
        """
        if snapshot is not self.snapshot:
            self.snapshot = snapshot
            self.edit = edit_script(snapshot, left_overs(snapshot.table) if self.withdraw else self.desired)
            self.entries = [self._compile(chain, rule) for chain, _position, rule in self.edit.inserts]
        return bool(self.edit)

    def _compile(self, chain: str, rule: FilterRule) -> bytes:
        try:
            return encode(rule, self.desired.family)
        except ValueError as exc:
            what = f"{self.desired.text}: -A {chain} {rule.text}"
            raise KernelError(self.opened.namespace, what, errno.EINVAL, str(exc)) from exc

    def summary(self) -> str:
        """What is new, for an error of the whole commit: the kernel does not say which rule it dislikes."""
        if not self.edit.inserts:
            return "commit"
        chain, _position, rule = self.edit.inserts[0]
        more = len(self.edit.inserts) - 1
        return f"commit of -A {chain} {rule.text}" + (f" (or one of {more} more new rules)" if more else "")


def left_overs(table: Table) -> Table:
    """What is the reference agent's in it."""
    return replace(
        table,
        chains=tuple(chain for chain in table.chains if is_leftover(chain.name)),
        jumps=tuple(jump for jump in table.jumps if is_leftover(jump[1])),
    )


def check_table(table: Table) -> None:
    """:raises ValueError: a chain is not ours or there twice, or a jump leads from or to what is not there"""
    if table.name not in BUILTINS:
        raise ValueError(f"the tables are {', '.join(BUILTINS)}")
    names = {chain.name for chain in table.chains}
    if len(names) != len(table.chains):
        raise ValueError("a chain is there twice")
    for name in names:
        check_chain_name(name)
        if not name.startswith(CHAIN_PREFIX):
            raise ValueError(f"chains of ours begin with {CHAIN_PREFIX}: {name}")
    for builtin, chain in table.jumps:
        if builtin not in BUILTINS[table.name] or chain not in names:
            raise ValueError(f"no jump from {builtin} to {chain} is possible")
    if len(set(table.jumps)) != len(table.jumps):
        raise ValueError("a jump is there twice")
    for found in table.chains:
        for rule in found.rules:
            if isinstance(rule.target, Jump) and rule.target.chain not in names:
                raise ValueError(f"there is no chain for -A {found.name} {rule.text}")


def _perform(handle: Handle, job: _Job) -> None:
    edit = job.edit
    for chain, position in edit.deletes:
        handle.delete(chain, position)
    for chain in edit.flushes:
        handle.flush(chain)
    for chain in edit.creates:
        handle.create_chain(chain)
    for (chain, position, rule), entry in zip(edit.inserts, job.entries, strict=True):
        handle.insert(chain, position, entry, rule)
    for chain in edit.drops:
        handle.delete_chain(chain)
