"""The checks, in the order of an answer's lines: from the document to the server.  Each judges :class:`Facts`."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from dvr_agent.cli.why.checks.conntrack import connections, table_size
from dvr_agent.cli.why.checks.daemon import daemon, pending
from dvr_agent.cli.why.checks.document import document, host, instance_port, nothing, rivals
from dvr_agent.cli.why.checks.filters import filters, host_filter
from dvr_agent.cli.why.checks.ipsec import policies
from dvr_agent.cli.why.checks.layer2 import bridges, instance, instance_mac, macs, vlans
from dvr_agent.cli.why.checks.links import links
from dvr_agent.cli.why.checks.neighbours import gateway_neighbour, other_owners, probes
from dvr_agent.cli.why.checks.objects import objects
from dvr_agent.cli.why.checks.port_flags import port_flags
from dvr_agent.cli.why.checks.routing import routes, rules
from dvr_agent.cli.why.checks.server import server
from dvr_agent.cli.why.checks.services import services, vrrp
from dvr_agent.cli.why.facts import Facts
from dvr_agent.cli.why.verdicts import Step

Check = Callable[[Facts], Iterator[Step]]

CHECKS: tuple[Check, ...] = (
    nothing,
    document,
    rivals,
    host,
    instance_port,
    objects,
    links,
    rules,
    routes,
    filters,
    policies,
    host_filter,
    bridges,
    vlans,
    instance,
    instance_mac,
    macs,
    port_flags,
    gateway_neighbour,
    probes,
    other_owners,
    connections,
    table_size,
    vrrp,
    services,
    server,
    daemon,
    pending,
)
"""All checks."""
