"""Asks neutron-server for routers and for what their documents need besides.

Thread: ``neutron-fetch`` runs everything here; start reading at ``fetcher.Fetcher.run``.  It may block for as long as
the server takes.  Other threads reach it by ``crossing.fetch_inbox`` only.  A full sync calls ``sync_routers`` in
a thread ``neutron-sync``, which runs nothing but the call itself (``full_sync``), while this one goes on.
"""
