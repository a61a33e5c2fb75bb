"""Packet filter rules of neutron-l3-agent 29.0.0, as input of ``iptables-restore``, for any number of floating IPs.

Facts out of recordings, with which ``tests/unit/test_bench_packets.py`` compares; ``@`` stands for its prefix.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

PREFIX = "neutron-l3-agent-"
SCOPE = "0x4000000/0xffff0000"
"""Mark of networks without an address scope."""

Rules = dict[str, list[str]]
"""Table → rules, in order."""
_HOOKS = {
    "mangle": ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"),
    "raw": ("PREROUTING", "OUTPUT"),
    "filter": ("INPUT", "FORWARD", "OUTPUT"),
    "nat": ("PREROUTING", "OUTPUT", "POSTROUTING"),
}


def fip_namespace() -> str:
    """Return the rules of a fip namespace: nothing is tracked."""
    rules = _frame()
    rules["raw"].append("-A @PREROUTING -j CT --notrack")
    rules["nat"].append("-A @snat -j @float-snat")
    return _text(rules)


def qrouter(inside: Sequence[str], rfp: str, fips: Iterable[tuple[str, str]]) -> str:
    """Return the rules of a qrouter namespace.

    :param inside: its ``qr-`` devices
    :param fips: (floating IP, fixed IP) of those on this host, at least one
    """
    rules = _router_frame([*inside, rfp])
    rules["mangle"].append(
        "-A @PREROUTING -d 169.254.169.254/32 -i qr-+ -p tcp -m tcp --dport 80 -j MARK --set-xmark 0x1/0xffff"
    )
    rules["filter"] += [f"-A @scope -o {device} -m mark ! --mark {SCOPE} -j DROP" for device in (*inside, rfp)]
    rules["nat"] += [f"-A @POSTROUTING ! -o {rfp} -m conntrack ! --ctstate DNAT -j ACCEPT", "-A @snat -j @float-snat"]
    for floating, fixed in fips:
        rules["nat"] += [
            f"-A @PREROUTING -d {floating}/32 -i {rfp} -j DNAT --to-destination {fixed}",
            f"-A @float-snat -s {fixed}/32 -j SNAT --to-source {floating} --random-fully",
        ]
    return _text(rules)


def snat(inside: Sequence[str], qg: str, gateway: str) -> str:
    """Return the rules of a snat namespace.

    :param inside: its ``sg-`` devices
    :param gateway: address of the gateway port
    """
    rules, to_gateway = _router_frame([*inside, qg]), f"-j SNAT --to-source {gateway} --random-fully"
    rules["mangle"] += [
        f"-A @POSTROUTING -o {qg} -m connmark --mark 0x0/0xffff0000 {_connmark('save')}",
        f"-A @mark -i {qg} -j MARK --set-xmark 0x2/0xffff",
    ]
    rules["filter"] += [f"-A @scope -o {device} -m mark ! --mark {SCOPE} -j DROP" for device in inside]
    rules["nat"] += [
        f"-A @POSTROUTING ! -o {qg} -m conntrack ! --ctstate DNAT -j ACCEPT",
        "-A @snat -j @float-snat",
        f"-A @snat -o {qg} {to_gateway}",
        f"-A @snat -m mark ! --mark 0x2/0xffff -m conntrack --ctstate DNAT {to_gateway}",
    ]
    return _text(rules)


def _frame() -> Rules:
    """Return what every namespace has: a chain of its own for each hook, and some around them."""
    rules = {table: [f"-A {hook} -j @{hook}" for hook in hooks] for table, hooks in _HOOKS.items()}
    rules["mangle"].append("-A @PREROUTING -j @mark")
    top = [f"-A {hook} -j neutron-filter-top" for hook in ("FORWARD", "OUTPUT")]
    rules["filter"] = [*top, *rules["filter"], "-A neutron-filter-top -j @local"]
    bottom = '-A neutron-postrouting-bottom -m comment --comment "Perform source NAT on outgoing traffic." -j @snat'
    rules["nat"] += ["-A POSTROUTING -j neutron-postrouting-bottom", bottom]
    return rules


def _router_frame(devices: Iterable[str]) -> Rules:
    """Return the frame with address scopes: all devices are in none."""
    rules = _frame()
    rules["mangle"] += [
        "-A @PREROUTING -j @scope",
        f"-A @PREROUTING -m connmark ! --mark 0x0/0xffff0000 {_connmark('restore')}",
        "-A @PREROUTING -j @floatingip",
        f"-A @float-snat -m connmark --mark 0x0/0xffff0000 {_connmark('save')}",
        *(f"-A @scope -i {device} -j MARK --set-xmark {SCOPE}" for device in devices),
    ]
    rules["filter"].append("-A @FORWARD -j @scope")
    return rules


def _connmark(verb: str) -> str:
    return f"-j CONNMARK --{verb}-mark --nfmask 0xffff0000 --ctmask 0xffff0000"


def _text(rules: Rules) -> str:
    lines: list[str] = []
    for table, found in rules.items():
        chains = sorted({chain for rule in found for chain in re.findall(r"(?:-A|-j) ((?:@|neutron-)\S+)", rule)})
        lines += [f"*{table}", *(f":{chain} - [0:0]" for chain in chains), *found, "COMMIT"]
    return "\n".join(lines).replace("@", PREFIX) + "\n"
