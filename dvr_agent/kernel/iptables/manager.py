"""Read, replace and print our part of the packet filter tables of any namespace; one commit per changed table.

Implements :class:`dvr_agent.kernel.api.PacketFilter` for the reconciler.  Tables are read from the kernel
(:mod:`.reader`) and written by libiptc (:mod:`.libiptc`); decoding, comparison, encoding and printing are pure
(:mod:`.table_decoder`, :mod:`.table_edit`, :mod:`.rule_codec`, :mod:`.save`).

Chains and rules of other programs are never touched, with two exceptions: rules in built-in chains that lead to a chain
which is deleted, and stale chains of neutron-l3-agent, which are deleted with our first commit to their table.
"""

from __future__ import annotations

import contextlib
import errno
import threading
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field

from dvr_agent.errors import KernelError
from dvr_agent.kernel.api import RuleCount, WriteCounters
from dvr_agent.kernel.iptables.fresh_table import EncodedRules, as_made, encode_rules, encode_table
from dvr_agent.kernel.iptables.helper_probe import HelperProbe
from dvr_agent.kernel.iptables.layout import BUILTINS
from dvr_agent.kernel.iptables.libiptc import Handle, library
from dvr_agent.kernel.iptables.lock import TIMEOUT, XTABLES_LOCK, xtables_lock
from dvr_agent.kernel.iptables.pending import Pending, l3_agent_part
from dvr_agent.kernel.iptables.reader import Namespaces, NamespaceTables, TableReader
from dvr_agent.kernel.iptables.rule_codec import encode
from dvr_agent.kernel.iptables.save import save_text
from dvr_agent.kernel.iptables.table_decoder import Snapshot
from dvr_agent.kernel.iptables.table_edit import Edit, edit_script
from dvr_agent.plural import count
from dvr_agent.state.filter import Family, FilterRule, Table, TableKey, Transport
from dvr_agent.state.itemwise import LONG

COMMIT_TRIES = 4
"""A table that changes between its reading and its commit is read and edited again, three times at most."""
FAMILIES: tuple[Family, ...] = (4, 6)


class LibiptcManager:
    """Packet filter tables by libiptc.

    Safe for several threads: writers queue for the lock that iptables uses.  It covers all namespaces of the host, so a
    lock per namespace would add nothing.

    :param namespaces: enters namespaces
    :param counters: counts commits
    :param lock_path: lock file shared with all iptables programs of the host
    :param lock_timeout: seconds to wait for the lock; 0: it is not waited for
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
        self._helpers = HelperProbe()
        self._lock_path, self._lock_timeout = lock_path, lock_timeout
        self._reserved = threading.local()

    def observe(self, namespace: str, tables: Iterable[TableKey], likely: Iterable[Table] = ()) -> tuple[Table, ...]:
        """Read our part of each named table, in the order asked for; stale chains of neutron-l3-agent are included.

        A table that the namespace does not have yet is empty; reading does not create it.

        :param likely: desired tables: one that is found as it is, is returned and remembered as this object

        :raises NamespaceGoneError: there is no such namespace
        """
        keys, desired = tuple(tables), {table.key: table for table in likely}
        with self._reader.open(namespace, keys) as opened:
            return tuple([opened.read(key, desired.get(key)).table for key in keys])

    def save(self, namespace: str) -> str:
        """Print our chains in all tables of both families, in iptables-save syntax; empty if there are none.

        Rules in our chains that ``state.filter`` cannot express are printed as comments.
        """
        return save_text(self.observe(namespace, [(family, name) for family in FAMILIES for name in BUILTINS]))

    def counts(self, namespace: str, table: TableKey) -> tuple[RuleCount, ...]:
        """Read the counters of all rules in our chains of a table; the table is not created by this.

        :raises NamespaceGoneError: there is no such namespace
        """
        with self._reader.open(namespace, (table,)) as opened:
            return opened.counts(table)

    def helper_families(self, name: str, protocol: Transport) -> frozenset[Family]:
        """Return the families for which the kernel has this connection tracking helper; empty: it has none.

        :raises KernelError: it could not be asked
        """
        return self._helpers.families(name, protocol)

    @contextlib.contextmanager
    def reserve(self) -> Iterator[None]:
        """Hold the lock that iptables programs share inside the block: each ``defer_apply`` there has it already.

        A job that is going to change tables takes it before its first write: it is not stopped half way.

        :raises TablesLockedError: it was not free in time
        """
        with xtables_lock(self._lock_path, self._lock_timeout):
            self._reserved.is_held = True
            try:
                yield
            finally:
                self._reserved.is_held = False

    def _lock(self) -> contextlib.AbstractContextManager[None]:
        """Return the lock for one commit: nothing where it is reserved."""
        if getattr(self._reserved, "is_held", False):
            return contextlib.nullcontext()
        return xtables_lock(self._lock_path, self._lock_timeout)

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
        with self._lock(), contextlib.ExitStack() as closing:
            planned = [self._plan(namespace, pending, closing) for namespace in pending.namespaces()]
            is_only = len(pending.tables) == 1
            for updates in planned:
                self._commit_all(updates, is_only)

    def _plan(self, namespace: str, pending: Pending, closing: contextlib.ExitStack) -> list[_TableUpdate]:
        """Compute the updates of the tables of a namespace that differ from the desired ones.

        libiptc reads a table before we do: what it has read is not older than what the update is computed from.
        """
        desired = {table.key: table for table in pending.of(namespace)}
        for family in {family for family, _name in desired}:
            library(family)  # the import must not happen inside the namespace
        handles: dict[TableKey, Handle] = {}

        def open_handles(existing: Collection[TableKey]) -> None:
            handles.update({key: closing.enter_context(Handle(namespace, key)) for key in desired if key in existing})

        opened = closing.enter_context(self._reader.open(namespace, desired, open_handles))
        updates = [
            _TableUpdate(opened, table, (namespace, key) in pending.withdrawn, handles.get(key))
            for key, table in desired.items()
        ]
        return [update for update in updates if update.begin()]

    def _commit_all(self, updates: list[_TableUpdate], is_only: bool) -> None:
        """Commit the tables of one namespace.

        New tables are written as they are, without libiptc, up to the first that the kernel refuses: libiptc tries that
        one again, and has the words for the error.

        :param is_only: no other table is committed, so that this one was read just now
        """
        while updates and updates[0].write_fresh():
            self._counters.commits += 1
            updates = updates[1:]
        with contextlib.ExitStack() as closing:
            for update in updates:
                self._commit(update, update.handle if is_only or update.is_current() else None, closing)

    def _commit(self, update: _TableUpdate, handle: Handle | None, closing: contextlib.ExitStack) -> None:
        """Update one table; repeated when a program that does not take the lock changed it meanwhile.

        :param handle: None: libiptc has to read the table, and it is read again after that
        """
        for tries_left in reversed(range(COMMIT_TRIES)):
            if handle is None:
                handle = self._handle(update, closing)
                if not update.plan(update.opened.read_existing(update.desired.key)):
                    return
            try:
                _perform(handle, update)
                handle.commit(update.summary)
                update.foresee()
            except KernelError as exc:
                if exc.code != errno.EAGAIN or not tries_left:
                    raise
            else:
                self._counters.commits += 1
                return
            handle = None

    def _handle(self, update: _TableUpdate, closing: contextlib.ExitStack) -> Handle:
        """Have libiptc read a table."""
        namespace = update.opened.namespace
        with self._namespaces.enter(namespace):
            return closing.enter_context(Handle(namespace, update.desired.key))


@dataclass(slots=True)
class _TableUpdate:
    """The update of one table.

    :ivar opened: reads the table
    :ivar desired: our part as it shall be
    :ivar withdraw: our chains are removed, those of neutron-l3-agent stay
    :ivar handle: the table as libiptc has read it before; None: it has not
    :ivar snapshot: the table as it was last read
    :ivar edit: the steps from ``snapshot`` to ``desired``
    :ivar entries: the encoded rules of ``edit.inserts``
    :ivar rules: of a table that does not exist yet, encoded
    """

    opened: NamespaceTables
    desired: Table
    withdraw: bool = False
    handle: Handle | None = None
    snapshot: Snapshot | None = None
    edit: Edit = field(default_factory=Edit)
    entries: list[bytes] = field(default_factory=list)
    rules: EncodedRules | None = None

    def begin(self) -> bool:
        """Compute what has to be done; False: nothing.

        :raises KernelError: EINVAL, a new rule cannot be expressed
        """
        if self.opened.exists(self.desired.key):
            return self.plan(self.opened.read_existing(self.desired.key))
        if not self.desired.chains:
            return False
        try:
            self.rules = encode_rules(self.desired, self.opened.namespace)
        except ValueError:
            for chain in self.desired.chains:
                for rule in chain.rules:
                    self._encode(chain.name, rule)  # which one is it?
            raise
        return True

    def is_current(self) -> bool:
        """True if the table, that of others included, is as it was when the update was computed."""
        return self.snapshot is not None and self.opened.read_existing(self.desired.key) is self.snapshot

    def write_fresh(self) -> bool:
        """Write a table that did not exist when it was planned; False: libiptc has to do it."""
        key = self.desired.key
        if self.opened.exists(key):
            return False
        try:
            initial = self.opened.initial(key)
        except KernelError:
            return False
        if initial is None:
            return False
        return self.opened.write_fresh(key, encode_table(initial, self.desired, self.rules))

    def plan(self, snapshot: Snapshot) -> bool:
        """Compute the steps from a snapshot; False if there are none.

        Rules that exist already are not encoded again.

        :raises KernelError: EINVAL, a new rule cannot be expressed
        """
        if snapshot is not self.snapshot:
            self.snapshot = snapshot
            self.edit = edit_script(snapshot, l3_agent_part(snapshot.table) if self.withdraw else self.desired)
            self.entries = [self._encode(chain, rule) for chain, _position, rule in self.edit.inserts]
        return bool(self.edit)

    def foresee(self) -> None:
        """Note what will be read of a long table that was committed, so that it need not be decoded.

        Where there is something else in it, what is read is not that, and no harm is done.
        """
        is_long = sum(len(one.rules) for one in self.desired.chains) >= LONG
        made = as_made(self.snapshot, self.desired) if self.snapshot is not None and is_long else None
        if made is not None and not self.withdraw:
            with contextlib.suppress(ValueError):
                rules = encode_rules(self.desired, self.opened.namespace)
                self.opened.foresee(self.desired.key, encode_table(made, self.desired, rules))

    def _encode(self, chain: str, rule: FilterRule) -> bytes:
        try:
            return encode(rule, self.desired.family)
        except ValueError as exc:
            what = f"{self.desired.text}: -A {chain} {rule.text}"
            raise KernelError(self.opened.namespace, what, errno.EINVAL, str(exc)) from exc

    def summary(self) -> str:
        """Return the text for an error of the whole commit: the kernel does not say which rule it refused."""
        if not self.edit.inserts:
            return "commit"
        chain, _position, rule = self.edit.inserts[0]
        number = len(self.edit.inserts)
        others = f" (or another of {count(number, 'new rule')})" if number > 1 else ""
        return f"commit of -A {chain} {rule.text}{others}"


def _perform(handle: Handle, update: _TableUpdate) -> None:
    """Carry out the steps of an update in libiptc's copy of the table."""
    edit = update.edit
    for chain, position in edit.deletes:
        handle.delete(chain, position)
    for chain in edit.flushes:
        handle.flush(chain)
    for chain in edit.creates:
        handle.create_chain(chain)
    for (chain, position, rule), entry in zip(edit.inserts, update.entries, strict=True):
        handle.insert(chain, position, entry, rule)
    for chain in edit.drops:
        handle.delete_chain(chain)
