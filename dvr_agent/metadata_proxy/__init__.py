"""``dvr-metadata-proxy``: one unprivileged process that answers the metadata requests of all routers of a host.

It gets listening sockets from the agent (``control_server``), serves HTTP to instances (``acceptor``,
``client_connection``) and forwards requests to neutron-metadata-agent (``upstream_exchange``), by asyncio and h11.  It
changes nothing in the kernel.  Start reading in ``main``.
"""
