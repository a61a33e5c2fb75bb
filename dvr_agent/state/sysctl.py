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
