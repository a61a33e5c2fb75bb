"""Tell which floating IPs of a router this host builds, and for which it answers to Neutron.

Used for their statuses: those that are reported to neutron-server, and those that metrics count.
"""

from __future__ import annotations

from dvr_agent.desired.host_view import HostView
from dvr_agent.model.features import ForwardingIp
from dvr_agent.model.router import FloatingIp


def listed(view: HostView) -> tuple[FloatingIp, ...]:
    """Return the floating IPs of the document, also those that cannot be built."""
    return (*view.router.floating_ips, *view.router.omitted_floating_ips)


def forwarding(view: HostView) -> tuple[ForwardingIp, ...]:
    """Return the floating IPs of port forwardings that are built here; none while the forwardings are not known."""
    return () if view.router.features.port_forwardings is None else view.forwarding_ips


def built_here(view: HostView) -> list[tuple[str, str]]:
    """Return (id, address) of the floating IPs that are built here."""
    here = [(fip.id, str(fip.address)) for fip in (*view.local_fips, *view.central_fips)]
    return here + [(fip.id, str(fip.address)) for fip in forwarding(view)]


def reported_here(view: HostView) -> set[str]:
    """Return floating IPs whose status this host must report; one still migrating in belongs to the source host."""
    return {
        *(fip.id for fip in listed(view) if _is_reported_here(view, fip)),
        *(fip.id for fip in forwarding(view)),
    }


def _is_reported_here(view: HostView, fip: FloatingIp) -> bool:
    return view.gateway_here is not None if view.is_central(fip) else fip.host == view.settings.host
