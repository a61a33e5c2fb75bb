"""The agent's side of metadata: opens listening sockets in routers' namespaces, and hands them to the proxy.

The proxy is ``dvr_agent.metadata_proxy``, a process of its own; both share ``dvr_agent.metadata``.
"""
