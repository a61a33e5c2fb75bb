"""Makes router documents of drafts and neighbour lists, and caches them on disk.  Asks no server; ``fetch`` uses it.

Thread: ``neutron-fetch`` runs everything here, so nothing here has a lock.  Documents leave by
``crossing.router_store`` (events), files by ``crossing.document_files``.
"""
