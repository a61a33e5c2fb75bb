"""Pictures of routers on this host: namespaces, devices, networks, floating IPs, and how they are connected.

``build`` makes a :class:`~dvr_agent.topology.graph.Graph` from observed states and documents; ``dot``, ``mermaid`` and
``svg`` draw it, ``graph.as_json`` is its JSON form.  Pure: no I/O, no clock, no log.  Used by ``dvrctl show``.
"""
