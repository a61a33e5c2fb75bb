"""What other programs do to a router's kernel objects: removals and changes, each by one command of an operator."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

from tests.support import lab
from tests.support.daemon_site import namespaces

Disturbance = Callable[[random.Random], str]
"""Does one thing, and returns its command; empty if there is nothing to do it to."""


def _run(*words: object) -> str:
    lab.run(*words, check=False)  # the kernel may refuse it: then nothing has changed
    return " ".join(map(str, words))


def _ours(dice: random.Random) -> str:
    names = sorted(name for name in namespaces() if name.startswith(("qrouter-", "snat-", "fip-")))
    return dice.choice(names) if names else ""


def _devices(namespace: str) -> list[Any]:
    return [link for link in lab.ip_json("address", "show", netns=namespace) if link["ifname"] != "lo"]


def _device(dice: random.Random) -> tuple[str, str]:
    """Return (namespace, device); empty if there is none."""
    space = _ours(dice)
    devices = [link["ifname"] for link in _devices(space)] if space else []
    return space, dice.choice(devices) if devices else ""


def _link(dice: random.Random) -> str:
    space, device = _device(dice)
    if not device:
        return ""
    change: list[object] = dice.choice([
        ["delete", device], ["set", device, "down"], ["set", device, "mtu", dice.choice([1280, 1300, 1501, 9000])],
        ["set", device, "address", f"fa:16:3e:00:01:{dice.randrange(256):02x}"],
    ])  # fmt: skip
    return _run("ip", "-n", space, "link", *change)


def _address(dice: random.Random) -> str:
    space = _ours(dice)
    found = [
        (link["ifname"], f"{one['local']}/{one['prefixlen']}")
        for link in (_devices(space) if space else [])
        for one in link["addr_info"]
    ]
    if not found:
        return ""
    device, address = dice.choice(found)
    if dice.random() < 0.3:
        return _run("ip", "-n", space, "address", "flush", "dev", device)
    return _run("ip", "-n", space, "address", "delete", address, "dev", device)


def _lines(space: str, *words: str) -> list[str]:
    return [line for line in lab.run("ip", *words[:1], "-n", space, *words[1:]).splitlines() if line.strip()]


def _route(dice: random.Random) -> str:
    space, family = _ours(dice), dice.choice(["-4", "-6"])
    lines = _lines(space, family, "route", "show", "table", "all") if space else []
    if not lines:
        return ""
    words = dice.choice(lines).replace(" linkdown", "").replace(" onlink", "").split()
    words = words[: words.index("pref")] if "pref" in words else words
    if dice.random() < 0.2:
        return _run("ip", family, "-n", space, "route", "flush", "table", dice.choice(["main", "all"]))
    if "via" in words and dice.random() < 0.3:
        other = words[words.index("via") + 1].rpartition(".")[0] + ".77"
        words[words.index("via") + 1] = other
        return _run("ip", family, "-n", space, "route", "replace", *words)
    return _run("ip", family, "-n", space, "route", "delete", *words)


def _rule(dice: random.Random) -> str:
    space, family = _ours(dice), dice.choice(["-4", "-4", "-6"])
    lines = _lines(space, family, "rule") if space else []
    if not lines:
        return ""
    number, _, rest = dice.choice(lines).partition(":")
    words = [word for word in rest.split() if word not in ("[detached]",)]
    if dice.random() < 0.15:
        return _run("ip", family, "-n", space, "rule", "flush")
    return _run("ip", family, "-n", space, "rule", "delete", "pref", number, *words)


def _neighbour(dice: random.Random) -> str:
    space = _ours(dice)
    lines = _lines(space, "-4", "neigh", "show", "nud", "permanent") if space else []
    if not lines:
        return ""
    words = dice.choice(lines).split()
    address, device = words[0], words[words.index("dev") + 1]
    if dice.random() < 0.5:
        return _run("ip", "-n", space, "neigh", "delete", address, "dev", device)
    mac = f"fa:16:3e:00:02:{dice.randrange(256):02x}"
    state = dice.choice(["permanent", "reachable"])
    return _run("ip", "-n", space, "neigh", "replace", address, "dev", device, "lladdr", mac, "nud", state)


def _parameter(dice: random.Random) -> str:
    space, device = _device(dice)
    if not device:
        return ""
    name = dice.choice([
        "net.ipv4.ip_forward=0", "net.ipv6.conf.all.forwarding=0", "net.ipv4.conf.default.forwarding=0",
        "net.ipv4.conf.all.arp_ignore=0", "net.ipv4.conf.all.arp_announce=0",
        f"net.ipv4.conf.{device}.forwarding=0", f"net.ipv6.conf.{device}.forwarding=0",
        f"net.ipv6.conf.{device}.disable_ipv6=1",
    ])  # fmt: skip
    return _run("ip", "netns", "exec", space, "sysctl", "-qw", name)


def _tables(dice: random.Random) -> str:
    space = _ours(dice)
    if not space:
        return ""
    program = dice.choice(["iptables-legacy", "iptables-legacy", "ip6tables-legacy"])
    table = dice.choice(["nat", "nat", "filter", "mangle", "raw"])
    ahead = ["ip", "netns", "exec", space, program, "-w", "-t", table]
    lines = [line.split() for line in lab.run(*ahead, "-S", check=False).splitlines()]
    chains = sorted({words[1] for words in lines if words[0] in ("-N", "-P")})
    ours = [chain for chain in chains if chain.startswith("dvr-")]
    rules = [line for line in lines if line[0] == "-A"]
    if not rules or not ours:
        return ""
    what = dice.choice(["flush all", "flush", "delete", "append", "policy"])
    if what == "flush all":
        return _run(*ahead, "-F")
    if what == "flush":
        return _run(*ahead, "-F", dice.choice(chains))
    if what == "append":
        return _run(*ahead, dice.choice(["-A", "-I"]), dice.choice(ours), "-s", "192.0.2.77", "-j", "ACCEPT")
    if what == "policy":
        return _run(*ahead, "-P", dice.choice(["OUTPUT", "PREROUTING"]), "DROP")
    return _run(*ahead, "-D", *(word.strip('"') for word in dice.choice(rules)[1:]))


def _rulesets(dice: random.Random) -> str:
    space = _ours(dice)
    if not space:
        return ""
    ahead = ["ip", "netns", "exec", space, "nft"]
    family = dice.choice(["ip", "ip", "ip6"])
    listed = lab.run(*ahead, "list", "table", family, "dvr", check=False)
    chains = [line.split()[1] for line in listed.splitlines() if line.strip().startswith("chain ")]
    maps = [line.split()[1] for line in listed.splitlines() if line.strip().startswith(("map ", "set "))]
    if not chains:
        return ""
    return _run(*ahead, *dice.choice([
        ["delete", "table", family, "dvr"], ["flush", "ruleset"], ["flush", "table", family, "dvr"],
        ["flush", "chain", family, "dvr", dice.choice(chains)],
        ["insert", "rule", family, "dvr", dice.choice(chains), "accept"],
        *([["flush", dice.choice(["map", "set"]), family, "dvr", dice.choice(maps)]] if maps else []),
        *([["delete", dice.choice(["map", "set"]), family, "dvr", dice.choice(maps)]] if maps else []),
    ]))  # fmt: skip


def _namespace(dice: random.Random) -> str:
    space = _ours(dice)
    return _run("ip", "netns", "delete", space) if space else ""


def _host(dice: random.Random) -> str:
    """A port's outer end, or a bridge."""
    links = [link for link in lab.ip_json("-d", "link", "show") if link["ifname"].startswith(("tap", "brq"))]
    if not links:
        return ""
    link = dice.choice(links)
    name = link["ifname"]
    changes: list[list[object]] = [["delete", name], ["set", name, "down"], ["set", name, "mtu", 1300]]
    if name.startswith("tap"):
        changes.append(["set", name, "nomaster"])
    return _run("ip", "link", *dice.choice(changes))


DISTURBANCES: tuple[Disturbance, ...] = (
    _link, _address, _address, _route, _route, _rule, _rule, _neighbour, _parameter, _parameter, _tables, _tables,
    _rulesets, _namespace, _host, _host,
)  # fmt: skip


def disturb(dice: random.Random) -> Iterator[str]:
    """Do one to three things; yields the command of each."""
    for _ in range(dice.choice([1, 1, 2, 3])):
        text = dice.choice(DISTURBANCES)(dice)
        if text:
            yield text
