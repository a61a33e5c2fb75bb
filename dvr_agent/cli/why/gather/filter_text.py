"""Parses what ``iptables-save -c`` and ``nft list ruleset`` print: rules of others that drop or translate.  Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import replace

from dvr_agent.cli.why.facts import FilterFacts
from dvr_agent.state.filter import CHAIN_PREFIX

_OURS = (CHAIN_PREFIX, "neutron-l3-agent")
"""Beginnings of chains that the planner compares."""
_OUR_TABLES = (" dvr", " dvr_qos")
_TARGETS = frozenset({"DROP", "REJECT", "DNAT", "SNAT", "MASQUERADE", "REDIRECT", "NETMAP"})
_SELECTORS = {"-s": "src", "-d": "dst", "-i": "iif", "-o": "oif"}
_PHYSICAL = {"--physdev-in": "iif", "--physdev-out": "oif"}
_COUNTED = re.compile(r"\[(\d+):\d+\] -A (\S+) (.*)")
_TABLE = re.compile(r"table (\S+) (\S+) \{")
_CHAIN = re.compile(r"chain (\S+) \{")
_HOOK = re.compile(r"type \S+ hook (\S+)(?: devices? (?:= \{ )?(.+?)(?: \})?)? priority [^;]*;(?: policy (\w+);)?")
_BELOW_IP = ("arp ", "bridge ", "netdev ")
"""Families whose policies the planner does not look at."""
_ACCEPTING = frozenset({"accept", "jump", "goto", "return", "vmap"})
_NEUTRAL = re.compile(r"(?:ether type|meta protocol) (?:arp|ip)\b|arp (?:operation|htype|ptype|hlen|plen) \S+")
"""Conditions of nft that the subject's packets, or ARP packets about it, meet."""
_COUNTER = re.compile(r"counter packets (\d+) bytes \d+")
_NFT_SELECTORS = (
    (re.compile(r"(?:ip6? saddr|arp saddr ip) (!= )?(\S+)"), "src"),
    (re.compile(r"(?:ip6? daddr|arp daddr ip) (!= )?(\S+)"), "dst"),
    (re.compile(r"(?:ether saddr|arp saddr ether) (!= )?(\S+)"), "smac"),
    (re.compile(r"(?:ether daddr|arp daddr ether) (!= )?(\S+)"), "dmac"),
    (re.compile(r'(?:iifname|iif|ibrname) (!= )?"?([^"\s]+)"?'), "iif"),
    (re.compile(r'(?:oifname|oif|obrname) (!= )?"?([^"\s]+)"?'), "oif"),
)
_NFT_VERDICTS = (
    ("drop", "DROP"),
    ("reject", "REJECT"),
    ("dnat", "DNAT"),
    ("snat", "SNAT"),
    ("masquerade", "MASQUERADE"),
    ("redirect", "REDIRECT"),
)


def parse_iptables(text: str, program: str) -> Iterator[FilterFacts]:
    """Parse ``iptables-save -c``; rules in chains of ours are left out.

    :param program: ``iptables`` or ``ip6tables``
    """
    table = ""
    for line in text.splitlines():
        if line.startswith("*"):
            table = line[1:]
        match = _COUNTED.fullmatch(line)
        if match is None or match[2].startswith(_OURS):
            continue
        words = shlex.split(match[3])
        target = words[words.index("-j") + 1] if "-j" in words[:-1] else ""
        if target not in _TARGETS:
            continue
        selects, rest = _iptables_selectors(words[: words.index("-j")])
        chain = match[2]
        yield FilterFacts(
            program,
            f"{program} table {table} chain {chain}",
            chain if chain.isupper() else "",
            target,
            selects,
            bool(rest),
            int(match[1]),
            f"{program} -t {table} -A {chain} {match[3]}",
        )


def _iptables_selectors(words: list[str]) -> tuple[dict[str, str], list[str]]:
    """Return the selectors by addresses and devices, and all other words."""
    found: dict[str, str] = {}
    rest: list[str] = []
    negated, at = "", 0
    while at < len(words):
        word = words[at]
        key = _SELECTORS.get(word) or _PHYSICAL.get(word)
        if word == "!":
            negated = "!"
        elif key is not None and at + 1 < len(words):
            found[key], negated = negated + words[at + 1], ""
            at += 1
        elif (word == "-m" and words[at + 1 : at + 2] in (["physdev"], ["comment"])) or word == "--comment":
            at += 1
        elif word != "--physdev-is-bridged":
            rest.append(word)
        at += 1
    return found, rest


def parse_nft(text: str) -> Iterator[FilterFacts]:
    """Parse ``nft list ruleset``; tables of ours are left out."""
    table = chain = hook = ""
    devices: list[str] = []
    is_closed = is_choosy = False
    for raw in text.splitlines():
        line = raw.strip()
        if match := _TABLE.match(line):
            table, chain, hook, devices = f"{match[1]} {match[2]}", "", "", []
        elif match := _CHAIN.match(line):
            chain, hook, devices, is_closed, is_choosy = match[1], "", [], False, False
        elif match := _HOOK.match(line):
            hook, devices = match[1].upper(), re.findall(r'[^\s,"]+', match[2] or "")
            is_closed = match[3] == "drop" and table.startswith(_BELOW_IP)
        elif line == "}":
            if is_closed:
                yield from _on_devices(_nft_rule(table, chain, hook, "policy drop", is_choosy), devices)
            chain, is_closed = "", False
        elif chain and not chain.startswith(_OURS) and not table.endswith(_OUR_TABLES):
            yield from _on_devices(_nft_rule(table, chain, hook, line, is_choosy), devices)
            is_choosy |= not _ACCEPTING.isdisjoint(line.split())


def _on_devices(rules: Iterator[FilterFacts], devices: list[str]) -> Iterator[FilterFacts]:
    """Yield a rule once for each device of its chain; only chains of the family netdev have devices."""
    for rule in rules:
        key = "oif" if rule.hook == "EGRESS" else "iif"
        yield from (replace(rule, selects={**rule.selects, key: device}) for device in devices)
        if not devices:
            yield rule


def _nft_rule(table: str, chain: str, hook: str, line: str, is_choosy: bool) -> Iterator[FilterFacts]:
    """Yield a rule of nft that drops or translates.

    :param is_choosy: rules before it in its chain may accept the packets
    """
    words = line.split()
    verdict = next((name for word, name in _NFT_VERDICTS if word in words), "")
    if not verdict:
        return
    rest, selects = line, dict[str, str]()
    for pattern, key in _NFT_SELECTORS:
        if match := pattern.search(rest):
            selects[key] = ("!" if match[1] else "") + match[2]
            rest = rest.replace(match[0], "")
    counter = _COUNTER.search(rest)
    rest = _COUNTER.sub("", rest).split("comment")[0]
    left = _NEUTRAL.sub("", rest[: rest.find(verdict.lower())]).removeprefix("policy ").split()
    place = f"nft table {table} chain {chain}"
    is_below = table.startswith(_BELOW_IP)
    # Other rules choose what jumps to a chain that is on no hook.
    is_conditional = bool(left) or (is_below and (is_choosy or not (hook or selects)))
    packets = int(counter[1]) if counter else None
    yield FilterFacts(
        "nft", place, hook, verdict, selects, is_conditional, packets, f"{place}: {line}" if is_below else line
    )
