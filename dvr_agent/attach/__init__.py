"""Attach drivers connect router ports to layer 2 networks: the interface (``api``), ``bridge`` and ``openvswitch``.

``links`` and ``outer_ends`` have what both drivers do with devices.  Nothing here knows routers.
"""
