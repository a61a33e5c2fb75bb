"""Writes the script by which keepalived checks whether a master reaches the router's gateways; pure.

keepalived runs it in its own network namespace, so in the router's.  Only a master has addresses on the external
network.  A backup, which has none and whose devices have the master's MAC addresses, sends nothing: the switches would
learn the router to be here.  So the check of a backup succeeds, as with neutron-l3-agent 29.
"""

from __future__ import annotations

import shlex
from ipaddress import ip_address
from pathlib import Path

from dvr_agent.state.route import Hop
from dvr_agent.state.virtual_router import VirtualRouterState

PING = "ping"
SECONDS = 1
"""Within which a gateway has to answer."""


def script_text(state: VirtualRouterState, silent: Path) -> str:
    """Return the script.

    :param silent: file that it makes with the gateway that did not answer, and removes when all of them answer
    """
    name = shlex.quote(str(silent))
    primary = f"ip -4 -o address show dev {state.device} to {state.primary.ip}/32"
    return "\n".join(
        (
            "#!/bin/sh",
            "# By dvr-agent, for keepalived: fails if this host is the master and a gateway does not answer.",
            "set -C  # the directory may be another user's: no link is followed, no file overwritten",
            f'[ -n "$({primary})" ] || exit 0',
            f"for gateway in {' '.join(map(_target, state.gateways))}; do",
            f'    {PING} -q -c 1 -w {SECONDS} "$gateway" >/dev/null && continue',
            f"    rm -f {name}",
            f'    echo "$gateway" >{name}',
            "    exit 1",
            "done",
            f"[ ! -e {name} ] || rm -f {name}",
            "",
        )
    )


def _target(hop: Hop) -> str:
    """Return a gateway for ping; a link-local one with its device."""
    gateway = str(hop.gateway)
    return f"{gateway}%{hop.device}" if ip_address(gateway).is_link_local else gateway
