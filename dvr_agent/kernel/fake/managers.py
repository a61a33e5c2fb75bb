"""The managers of :mod:`dvr_agent.kernel.api` in memory, and :class:`FakeKernel`, by which tests inspect them."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from ipaddress import ip_address, ip_network
from typing import Any

from dvr_agent.errors import KernelError, NamespaceGoneError
from dvr_agent.kernel.api import DroppingChain, GratuitousArp, Kernel, PendingTables, RuleCount, WriteCounters
from dvr_agent.kernel.fake.faults import Call, Faults
from dvr_agent.kernel.fake.plumber import FakePlumber
from dvr_agent.kernel.fake.world import FakeLink, FakeNamespace, World
from dvr_agent.kernel.iptables.pending import l3_agent_part
from dvr_agent.state.filter import Family, Jump, Ports, Table, TableKey, Transport
from dvr_agent.state.namespace import Announcement

HELPERS: dict[tuple[str, str], frozenset[Family]] = {
    ("ftp", "tcp"): frozenset({4, 6}),
    ("tftp", "udp"): frozenset({4, 6}),
    ("sip", "tcp"): frozenset({4, 6}),
    ("sip", "udp"): frozenset({4, 6}),
    ("Q.931", "tcp"): frozenset({4, 6}),
    ("pptp", "tcp"): frozenset({4}),
}
"""Connection tracking helpers of Linux with the families that it has them for; the fake kernel knows no others."""


class FakeKernel:
    """The fake kernel as tests see it: its contents, its log, its failures.

    :ivar world: all namespaces; tests change them as an operator, or as packets that make connections, would
    :ivar helpers: (connection tracking helper, protocol) → families for which this kernel has it
    :ivar sent: (namespace, announcement) in the order in which they were sent
    """

    def __init__(self) -> None:
        self.world = World()
        self.counters = WriteCounters()
        self.helpers: dict[tuple[str, str], frozenset[Family]] = dict(HELPERS)
        self.sent: list[tuple[str, Announcement]] = []
        self.faults = Faults()

    def __getitem__(self, namespace: str) -> FakeNamespace:
        return self.world.namespaces[namespace]

    def fail(
        self,
        method: str,
        nth: int = 1,
        error: Exception | None = None,
        when: Callable[..., bool] | None = None,
        times: int | None = 1,
    ) -> None:
        """Let calls fail: from the ``nth`` matching one on, ``times`` of them (None: all).

        :param method: one of :data:`~dvr_agent.kernel.fake.faults.METHODS`, or ``ANY`` of that module
        :param error: what is raised; None: a :class:`KernelError` EIO that names the namespace and the method
        :param when: gets the call's arguments; only calls for which it returns True count and fail
        """
        self.faults.add(method, nth, error, when, times)

    def heal(self) -> None:
        """Let no more calls fail."""
        self.faults.clear()

    def calls(self, *methods: str) -> list[Call]:
        """Return the log, of all methods or of those that begin with one of the names, such as ``iptables``."""
        return [call for call in self.faults.log if not methods or call.method.startswith(methods)]

    def forget_calls(self) -> None:
        """Clear the log of calls."""
        self.faults.log.clear()

    def add_link(self, namespace: str, name: str, mac: str, mtu: int = 1500, up: bool = True) -> None:
        """Add a device as an attach driver or an operator does."""
        self.world.namespaces[namespace].add_link(name, FakeLink(mac, mtu, up))

    def kernel(self) -> Kernel:
        """Return the interface of :mod:`dvr_agent.kernel.api`."""
        return Kernel(
            _Namespaces(self),
            FakePlumber(self.world, self.faults, self.counters),
            _Iptables(self),
            _Nftables(self),
            _Conntrack(self),
            _Announcer(self),
            self.counters,
        )

    def inside(self, namespace: str) -> FakeNamespace:
        """Return a namespace.

        :raises NamespaceGoneError: there is none of that name
        """
        there = self.world.namespaces.get(namespace)
        if there is None:
            raise NamespaceGoneError(namespace, "namespace", errno.ENOENT, "it does not exist")
        return there


def fake_kernel() -> tuple[Kernel, FakeKernel]:
    """Make a new, empty kernel: its interface, and its inside for tests."""
    fake = FakeKernel()
    return fake.kernel(), fake


class _Part:
    def __init__(self, fake: FakeKernel) -> None:
        self._fake = fake

    def _call(self, method: str, *args: Any) -> None:
        self._fake.faults.call(method, *args)


class _Namespaces(_Part):
    on_new: Callable[[str, int], object]

    def create(self, name: str) -> None:
        self._call("namespaces.create", name)
        self._fake.counters.namespaces += self._fake.world.create(name)

    def remove(self, name: str) -> None:
        self._call("namespaces.remove", name)
        self._fake.counters.namespaces += self._fake.world.remove(name)

    def exists(self, name: str) -> bool:
        self._call("namespaces.exists", name)
        return name in self._fake.world.namespaces

    def empty_files(self) -> Sequence[str]:
        self._call("namespaces.empty_files")
        return sorted(self._fake.world.empty_files - self._fake.world.namespaces.keys())

    def remove_file(self, name: str) -> None:
        self._call("namespaces.remove_file", name)
        self._fake.world.empty_files.discard(name)

    def job(self) -> AbstractContextManager[None]:
        return contextlib.nullcontext()

    @contextlib.contextmanager
    def enter(self, name: str) -> Iterator[None]:
        self._call("namespaces.enter", name)
        self._fake.inside(name)
        yield

    # Last, because its name hides the built-in type from annotations below it.
    def list(self) -> list[str]:
        self._call("namespaces.list")
        return sorted(self._fake.world.namespaces)


class _Pending(_Part):
    def __init__(self, fake: FakeKernel) -> None:
        super().__init__(fake)
        self.wanted: dict[tuple[str, TableKey], Table] = {}

    def replace(self, namespace: str, table: Table) -> None:
        self._call("iptables.replace", namespace, table)
        self.wanted[namespace, table.key] = table

    def withdraw(self, namespace: str, key: TableKey) -> None:
        self._call("iptables.withdraw", namespace, key)
        self.wanted[namespace, key] = l3_agent_part(self._fake.inside(namespace).tables.get(key) or Table(*key))


class _Iptables(_Part):
    def observe(self, namespace: str, tables: Iterable[TableKey]) -> tuple[Table, ...]:
        keys = tuple(tables)
        self._call("iptables.observe", namespace, keys)
        there = self._fake.inside(namespace)
        return tuple(there.tables.get(key) or Table(*key) for key in keys)

    @contextlib.contextmanager
    def reserve(self) -> Iterator[None]:
        self._call("iptables.reserve")
        yield

    @contextlib.contextmanager
    def defer_apply(self) -> Iterator[PendingTables]:
        pending = _Pending(self._fake)
        yield pending
        for (namespace, key), table in pending.wanted.items():
            there = self._fake.inside(namespace)
            if (there.tables.get(key) or Table(*key)) == table:
                continue
            self._call("iptables.commit", namespace, table)
            chains = {chain.name for chain in table.chains}
            for target in (rule.target for chain in table.chains for rule in chain.rules):
                if isinstance(target, Jump) and target.chain not in chains:
                    raise KernelError(namespace, table.text, errno.ENOENT, f"no chain {target.chain}")
            self._fake.counters.commits += 1
            there.tables[key] = table

    def save(self, namespace: str) -> str:
        self._call("iptables.save", namespace)
        there = self._fake.inside(namespace)
        return "".join(map(_saved, (there.tables[key] for key in sorted(there.tables))))

    def counts(self, namespace: str, table: TableKey) -> tuple[RuleCount, ...]:
        self._call("iptables.counts", namespace, table)
        found = self._fake.inside(namespace).tables.get(table)
        chains = found.chains if found is not None else ()
        return tuple(RuleCount(rule, 0, 0) for chain in chains for rule in chain.rules)

    def helper_families(self, name: str, protocol: Transport) -> frozenset[Family]:
        self._call("iptables.helper_families", name, protocol)
        return self._fake.helpers.get((name, protocol), frozenset())


class _Nftables(_Part):
    def observe(self, namespace: str) -> tuple[Table, ...]:
        self._call("nftables.observe", namespace)
        return tuple(self._fake.inside(namespace).nft_tables)

    def dropping(self, namespace: str) -> tuple[DroppingChain, ...]:
        there = self._fake.world.namespaces.get(namespace)
        return () if there is None else tuple(there.dropping)

    def remove(self, namespace: str) -> int:
        self._call("nftables.remove", namespace)
        there = self._fake.inside(namespace)
        chains = sum(len(table.chains) for table in there.nft_tables)
        self._fake.counters.nftables += bool(chains)
        there.nft_tables.clear()
        return chains

    def withdraw(self, namespace: str) -> None:
        self._call("nftables.withdraw", namespace)
        there = self._fake.inside(namespace)
        left = [l3_agent_part(table) for table in there.nft_tables]
        self._fake.counters.nftables += left != there.nft_tables
        there.nft_tables[:] = [table for table in left if table.chains]


class _Conntrack(_Part):
    def delete(self, namespace: str, address: str) -> int:
        self._call("conntrack.delete", namespace, address)
        there = self._fake.inside(namespace)
        stay = [connection for connection in there.connections if address not in connection]
        deleted = len(there.connections) - len(stay)
        there.connections = stay
        return deleted

    def delete_to_ports(self, namespace: str, address: str, ports: Collection[Ports]) -> int:
        """Note the call: connections here have no ports."""
        self._call("conntrack.delete_to_ports", namespace, address, tuple(sorted(ports)))
        return 0

    def drop_untranslated(self, namespace: str, addresses: Collection[str], inside: Sequence[str]) -> int:
        self._call("conntrack.drop_untranslated", namespace, tuple(sorted(addresses)), tuple(inside))
        there = self._fake.inside(namespace)
        networks = [ip_network(network) for network in inside]

        def is_deleted(connection: tuple[str, str, str, str]) -> bool:
            source, destination, *reply = connection
            plain = reply == [destination, source]
            return plain and source in addresses and not any(ip_address(destination) in net for net in networks)

        stay = [connection for connection in there.connections if not is_deleted(connection)]
        deleted = len(there.connections) - len(stay)
        there.connections = stay
        return deleted


class _Announcer(_Part):
    def announce(
        self, namespace: str, announcements: Sequence[Announcement], arp: GratuitousArp = GratuitousArp.BOTH
    ) -> None:
        self._call("announcer.announce", namespace, tuple(announcements))
        if not announcements:
            return
        there = self._fake.inside(namespace)
        failed: KernelError | None = None
        for one in announcements:
            try:
                self._call("announcer.send", namespace, one)
                if one.device not in there.links:
                    what = f"announcement of {one.address} dev {one.device}"
                    raise KernelError(namespace, what, errno.ENODEV)
                self._fake.sent.append((namespace, one))
            except KernelError as exc:
                failed = failed or exc
        if failed is not None:
            raise failed


def _saved(table: Table) -> str:
    """Return one table in iptables-save syntax, without counters."""
    if not table.chains:
        return ""
    lines = [f"# {table.text}", f"*{table.name}", *(f":{chain.name} - [0:0]" for chain in table.chains)]
    lines += [f"-A {builtin} -j {chain}" for builtin, chain in table.jumps]
    lines += [f"-A {chain.name} {rule.text}" for chain in table.chains for rule in chain.rules]
    return "\n".join([*lines, "COMMIT", ""])
