"""Packet filter tables by python-iptables' libiptc binding; :mod:`.manager` is the way in."""

from dvr_agent.kernel.iptables.binding import probe
from dvr_agent.kernel.iptables.manager import LibiptcManager

__all__ = ["LibiptcManager", "probe"]
