"""Parameters of devices that keep a router from working; the kernel reports them with the devices.

Nobody has to write them for a new device: it takes them over from the namespace.  So they are no part of the desired
state, and only an observed state has those with an adverse value.  Used by ``diff``, and by
who reads the parameters of namespaces that they depend on.
"""

from __future__ import annotations

from collections.abc import Iterator

from dvr_agent.state.namespace import NamespaceState
from dvr_agent.state.sysctl import FORWARDING, Sysctl

FORWARDS = Sysctl(FORWARDING, "1")
FORWARDS_IPV6 = Sysctl("ipv6/conf/all/forwarding", "1")
DISABLE_IPV6 = Sysctl("ipv6/conf/all/disable_ipv6", "1")
"""The parameter, with the value that means that a namespace has no IPv6 (``desired/without_ipv6.py``)."""
DISABLE_NEW = Sysctl("ipv6/conf/default/disable_ipv6", "1")
"""The parameter, with the value that means that a namespace's new devices have no IPv6."""


def repairs(now: NamespaceState, desired: NamespaceState) -> Iterator[tuple[Sysctl, Sysctl]]:
    """Yield (found, wanted) of the adverse parameters of desired devices.

    Strict reverse path filtering is none of them: it is named as a hindrance (``reconcile/hindrances.py``).
    """
    devices = {link.name for link in desired.links}
    named = {one.key for one in desired.sysctls}
    for found in sorted(now.adverse):
        value = _wanted(found, now, desired)
        if value and found.device in devices and found.key not in named:
            yield found, Sysctl(found.key, value)


def _wanted(found: Sysctl, now: NamespaceState, desired: NamespaceState) -> str:
    """Return the value that an adverse parameter must have; empty: any.

    Where the whole namespace does not forward, the device's parameter is set with that of the namespace.  A backup of
    VRRP forwards no IPv6.
    """
    if found.key.endswith("/forwarding"):
        is_wanted = FORWARDS in now.sysctls
        if found.key.startswith("ipv6/"):
            is_wanted = FORWARDS_IPV6 in (now.sysctls & desired.sysctls if desired.sysctls else now.sysctls)
        return "1" if is_wanted else ""
    if found.key.endswith("/disable_ipv6"):
        return "0" if now.sysctls.isdisjoint((DISABLE_IPV6, DISABLE_NEW)) else ""
    return ""
