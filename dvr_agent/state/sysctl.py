"""Kernel parameters below ``net.`` in one namespace."""

from __future__ import annotations

from typing import NamedTuple


class Sysctl(NamedTuple):
    """One parameter.  Identity: its key.

    Parameters cannot be removed: the diff only ever sets them.
    """

    key: str
    """Path below ``/proc/sys/net``, e.g. ``ipv4/ip_forward`` or ``ipv4/conf/qr-7fb6853b-e0/send_redirects``."""
    value: str

    @property
    def text(self) -> str:
        return f"sysctl net/{self.key}={self.value}"

    @property
    def device(self) -> str | None:
        """The device the parameter belongs to, None for those of the whole namespace."""
        parts = self.key.split("/")
        return parts[2] if len(parts) > 3 and parts[2] not in ("all", "default") else None


def same_sysctl(found: Sysctl, wanted: Sysctl) -> bool:
    """True if a parameter as read back is what was asked for.

    ``proxy_delay`` is given in ticks of 1/100 s and kept in jiffies: a kernel with 250 Hz makes 1 to 0
    (``proc_dointvec_userhz_jiffies``, net/core/neighbour.c).
    """
    if found == wanted:
        return True
    if not wanted.key.endswith("/proxy_delay") or found.key != wanted.key:
        return False
    return found.value.isdigit() and 0 <= int(wanted.value) - int(found.value) <= 1
