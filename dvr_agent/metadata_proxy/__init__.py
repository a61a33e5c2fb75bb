"""``dvr-metadata-proxy``: one unprivileged process that answers the metadata requests of all routers of a host.

It gets listening sockets from the agent (``control``), speaks HTTP with instances (``connection``) and forwards to
neutron-metadata-agent (``forward``).  asyncio and h11; nothing here changes anything in the kernel.
"""
