"""What the kernel has, as independent tools print it: iproute2, iptables, nft; for each namespace and for the host."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from dvr_agent.cli.diag.piece import Piece, json_piece, text_piece
from dvr_agent.cli.diag.sources import command
from dvr_agent.kernel import capability
from dvr_agent.kernel.netns import NETNS_DIR
from dvr_agent.state.filter import Family

_IP = (
    ("links.json", "-d -s link show"),
    ("addresses.json", "-d address show"),
    ("routes-ipv4.json", "-d -4 route show table all"),
    ("routes-ipv6.json", "-d -6 route show table all"),
    ("rules-ipv4.json", "-d -4 rule show"),
    ("rules-ipv6.json", "-d -6 rule show"),
    ("neighbours.json", "-d -s neighbour show"),
    ("proxied-neighbours.json", "neighbour show proxy"),
)
_LEGACY: tuple[tuple[Family, str, str], ...] = (
    (4, "iptables.txt", "iptables-legacy-save"),
    (6, "ip6tables.txt", "ip6tables-legacy-save"),
)
_HOST = (
    ("bridge-ports.json", ("bridge", "-d", "-j", "link", "show")),
    ("namespace-ids.json", ("ip", "-j", "netns", "list-id")),
)
_SYSCTLS = "|".join(
    (
        r"^net\.ipv4\.(ip_forward|neigh\.default\.gc_)",
        r"^net\.ipv6\.(conf\.(all|default)\.|neigh\.default\.gc_)",
        r"^net\.bridge\.",
        r"^net\.netfilter\.nf_conntrack_(max|count)",
    )
)


def kernel_pieces(namespaces: list[str]) -> Iterator[Piece]:
    """Yield the pieces of these namespaces, and of the host's own."""
    yield from _of("kernel/host", "")
    for name, words in _HOST:
        yield json_piece(f"kernel/host/{name}", partial(command, *words))
    yield text_piece("kernel/host/sysctls.txt", partial(command, "sysctl", "-a", "-r", _SYSCTLS))
    for name in namespaces:
        yield from _of(f"kernel/{name}", name)


def _of(directory: str, namespace: str) -> Iterator[Piece]:
    within = ("ip", "-n", namespace) if namespace else ("ip",)
    for name, words in _IP:
        yield json_piece(f"{directory}/{name}", partial(command, *within, "-j", *words.split()))
    enter = ("nsenter", f"--net={NETNS_DIR}/{namespace}") if namespace else ()
    for family, name, program in _LEGACY:
        if capability.has_legacy_tables(family):
            yield text_piece(f"{directory}/{name}", partial(command, *enter, program, "-c"))
    yield text_piece(f"{directory}/nftables.txt", partial(command, *enter, "nft", "list", "ruleset"))
    yield json_piece(f"{directory}/qdiscs.json", partial(command, *enter, "tc", "-s", "-j", "qdisc", "show"))
