"""Connection tracking entries (nfnetlink_conntrack): found by address, and deleted.

:mod:`.condition` selects connections, :mod:`.message` makes requests and reads entries, :mod:`.manager`
implements :class:`dvr_agent.kernel.api.Conntrack` with them over :mod:`dvr_agent.kernel.netlink.transport`.
"""
