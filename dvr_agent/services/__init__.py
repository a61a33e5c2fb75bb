"""Services of routers beside their kernel state: router advertisements (radvd) and metadata.  See ``api``.

``reconcile`` calls them: after a router's kernel state is in place, and before its namespaces are removed.
"""
