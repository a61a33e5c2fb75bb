"""Kernel parameters below ``net.`` in one namespace; only parameters of the desired state are read and compared."""

from __future__ import annotations

from operator import attrgetter
from typing import NamedTuple

from dvr_agent.state.kind import Kind

FORWARDING = "ipv4/ip_forward"


class Sysctl(NamedTuple):
    """One parameter.  Identity: its key.

    A parameter cannot be removed: the diff only sets it.
    """

    key: str
    """Path below ``/proc/sys/net``, e.g. ``ipv4/ip_forward`` or ``ipv4/conf/qr-7fb6853b-e0/send_redirects``."""
    value: str

    @property
    def text(self) -> str:
        """The parameter in sysctl(8)'s terms."""
        return f"sysctl net/{self.key}={self.value}"

    @property
    def device(self) -> str | None:
        """The device of the parameter, None for a parameter of the whole namespace."""
        parts = self.key.split("/")
        return parts[2] if len(parts) > 3 and parts[2] not in ("all", "default") else None


def same_sysctl(found: Sysctl, wanted: Sysctl) -> bool:
    """True if the kernel's value of a parameter is the desired one.

    ``proxy_delay`` is written in ticks of 1/100 s and stored in jiffies: a kernel with 250 Hz turns 1 into 0
    (``proc_dointvec_userhz_jiffies``, net/core/neighbour.c).
    """
    if found == wanted:
        return True
    if not wanted.key.endswith("/proxy_delay") or found.key != wanted.key:
        return False
    return found.value.isdigit() and 0 <= int(wanted.value) - int(found.value) <= 1


def _build_rank(sysctl: Sysctl) -> int:
    """Return -1 for a parameter of the namespace, which new devices take over; 10, before addresses, for others.

    -2 for ``ip_forward``, which sets ``forwarding`` of all devices and of new ones, unless a new namespace has taken it
    over from the host.

    Whether a device has IPv6 is a parameter of it.  While a new device's carrier comes, the kernel's writes of
    ``forwarding`` wait for the RTNL lock in a busy loop (``restart_syscall`` in net/ipv4/devinet.c).
    """
    if sysctl.device is not None:
        return 10
    return -2 if sysctl.key == FORWARDING else -1


def _devices(sysctl: Sysctl) -> tuple[str, ...]:
    device = sysctl.device
    return () if device is None else (device,)


SYSCTL_KIND = Kind(
    Sysctl,
    name="sysctl",
    field="sysctls",
    build_rank=_build_rank,
    remove_rank=0,
    owned=lambda _ownership, _sysctl: True,  # only parameters of the desired state are read
    devices=_devices,
    key=attrgetter("key"),
    same=same_sysctl,
    removable=False,
)
