"""Makes router documents of answers and neighbour lists, and keeps them on disk.  Asks no server.

Thread: ``neutron-fetch`` runs everything here, so nothing here has a lock.  Documents leave by
``crossing.router_store`` (events), files by ``crossing.document_files``.
"""
