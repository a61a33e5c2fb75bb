"""The words of the contract tests: two namespaces joined by a veth pair, and short ways to change and read them."""

from __future__ import annotations

from collections.abc import Iterable

from dvr_agent.kernel.api import Kernel
from dvr_agent.state.address import Address
from dvr_agent.state.diff import Action, Change
from dvr_agent.state.filter import FilterRule, Not, Snat, Table, Verdict
from dvr_agent.state.filter_runs import make_table
from dvr_agent.state.kind import KernelObject
from dvr_agent.state.link import Link, Veth, VethPeer
from dvr_agent.state.namespace import NamespaceState
from dvr_agent.state.ownership import Ownership, RuleOwner
from dvr_agent.state.sysctl import Sysctl
from tests.support.waiting import wait_for

A, B = "qrouter-contract", "fip-contract"
NEAR, FAR = "rfp-contract", "fpr-contract"
NEAR_MAC, FAR_MAC = "fa:16:3e:00:00:0a", "fa:16:3e:00:00:0b"
OURS = Ownership(prefixes=("rfp-", "fpr-", "qr-"), rules=RuleOwner.QROUTER, proxied=("::/0",), limited=("rfp-",))
FORWARD = "ipv4/ip_forward"

NEAR_LINK = Link(NEAR, NEAR_MAC, 1450, True, Veth(B, FAR, FAR_MAC))
FAR_LINK = Link(FAR, FAR_MAC, 1450, True, VethPeer(A, NEAR))
SNAT = make_table(4, "nat", {"POSTROUTING": (FilterRule(Snat("203.0.113.5"), src="10.0.0.4/32"),)})
KEEP = make_table(
    6, "filter", {"FORWARD": (FilterRule(Verdict("DROP"), iif="qr-a", oif=Not("qr-+")), FilterRule(Verdict("ACCEPT")))}
)


def bare(link: Link) -> Link:
    """As it is read back."""
    return link._replace(origin=None)


def add(kernel: Kernel, namespace: str, *items: KernelObject) -> None:
    kernel.interfaces.apply(namespace, [Change(Action.ADD, item) for item in items])


def remove(kernel: Kernel, namespace: str, *items: KernelObject) -> None:
    kernel.interfaces.apply(namespace, [Change(Action.REMOVE, item, item) for item in items])


def change(kernel: Kernel, namespace: str, old: KernelObject, new: KernelObject) -> None:
    kernel.interfaces.apply(namespace, [Change(Action.CHANGE, new, old)])


def see(kernel: Kernel, namespace: str = A, ownership: Ownership = OURS, sysctls: Iterable[str] = ()) -> NamespaceState:
    state = kernel.interfaces.observe(namespace, ownership, sysctls)
    assert state is not None
    return state


def join(kernel: Kernel, near: Link = NEAR_LINK, far: Link = FAR_LINK) -> None:
    """Both namespaces, the pair between them up, an IPv4 and an IPv6 subnet on the near end."""
    for namespace in (A, B):
        kernel.namespaces.create(namespace)
    add(kernel, A, near)
    add(kernel, B, far)
    add(kernel, A, Address(near.name, "10.0.0.1/24"), Address(near.name, "2001:db8::1/64"))


def replace_tables(kernel: Kernel, *tables: Table, namespace: str = A) -> None:
    with kernel.packet_filter.defer_apply() as pending:
        for table in tables:
            pending.replace(namespace, table)


def value_of(kernel: Kernel, key: str, namespace: str = A) -> str | None:
    """A parameter's value, None if there is no such parameter."""
    found: dict[str, str] = {one.key: one.value for one in see(kernel, namespace, sysctls=[key]).sysctls}
    return found.get(key)


def set_value(kernel: Kernel, key: str, value: str, namespace: str = A) -> None:
    add(kernel, namespace, Sysctl(key, value))


def eventually_no_links(kernel: Kernel, namespace: str) -> None:
    """The kernel tears a namespace down in the background; its veth peers elsewhere vanish when it gets there."""
    wait_for(lambda: not see(kernel, namespace).links, f"no link is left in {namespace}")
