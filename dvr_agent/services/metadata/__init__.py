"""The agent's side of metadata: opens the listening sockets in routers' namespaces, hands them to the proxy."""
