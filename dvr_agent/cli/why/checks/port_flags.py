"""Ports of bridges that do not pass packets though they are up: isolated from each other, locked, blocking."""

from __future__ import annotations

from collections.abc import Iterator

from dvr_agent.attach.outer_ends import tap_name
from dvr_agent.cli.why import causes
from dvr_agent.cli.why.address_path import Leg
from dvr_agent.cli.why.attachment import find_attachment
from dvr_agent.cli.why.facts import Facts, LinkFacts
from dvr_agent.cli.why.verdicts import Step, wrong


def port_flags(facts: Facts) -> Iterator[Step]:
    """Judge the flags of the ports by which the path's legs, the instance and the outside are on their bridges."""
    here, attached = facts.host.here, find_attachment(facts)
    for leg in facts.path.legs:
        tap = here.link(tap_name(leg.port.id))
        if tap is None or not tap.master:
            continue
        ports = [link for link in here.links if link.master == tap.master]
        yield from _closed(facts, tap, leg.port.mac)
        if leg == facts.path.outside:
            ends, what = [one for one in ports if not one.name.startswith("tap")], "the outside"
        elif facts.subject.port is not None:
            ends, what = [one for one in ports if attached and one.name == attached.device], "the instance"
            for one in ends:
                yield from _closed(facts, one, facts.subject.port.mac)
        else:
            ends, what = [one for one in ports if one != tap and "isolated" in one.port_flags], "these instances"
        yield from _isolated(leg, tap, ends, ports, what)


def _closed(facts: Facts, port: LinkFacts, mac: str) -> Iterator[Step]:
    """Judge the state of a port; a locked one passes only senders that its bridge has an entry of."""
    states = port.port_flags - {"isolated", "locked"}
    if states and port.up and port.carrier:
        (text,), command = states, f"bridge link set dev {port.name} state forwarding"
    elif "locked" in port.port_flags and port.name not in facts.host.fdb.get(port.master, {}).get(mac, ()):
        text, command = f"locked, and its bridge has no entry for {mac}", f"bridge link set dev {port.name} locked off"
    else:
        return
    values = {"device": port.name, "bridge": port.master, "command": command}
    yield wrong("bridge port", text, port.text, causes.PORT_CLOSED, **values)


def _isolated(leg: Leg, tap: LinkFacts, ends: list[LinkFacts], ports: list[LinkFacts], what: str) -> Iterator[Step]:
    if "isolated" not in tap.port_flags or not ends or not all("isolated" in one.port_flags for one in ends):
        return
    names = ", ".join(one.name for one in ports if "isolated" in one.port_flags)
    text = f"{leg.device} and {what} cannot reach each other on {tap.master}; isolated: {names}"
    values = {"bridge": tap.master, "ends": f"{leg.device} and {what}", "isolated": names, "device": tap.name}
    yield wrong("bridge port", text, tap.text, causes.PORT_ISOLATED, **values)
