"""Legacy packet filter tables (x_tables), read from the kernel and written by python-iptables' binding of libiptc.

:mod:`.manager` implements :class:`dvr_agent.kernel.api.PacketFilter`; :mod:`.libiptc` is the only module that
touches python-iptables.
"""

from dvr_agent.kernel.iptables.libiptc import probe
from dvr_agent.kernel.iptables.manager import LibiptcManager

__all__ = ["LibiptcManager", "probe"]
