"""Control sockets, by which the agent hands sockets to its helper processes: dvr-metadata-proxy and dvr-vrrp.

Imports nothing but ``errors`` and ``notify``: the helpers are processes of their own, with few rights.
"""
