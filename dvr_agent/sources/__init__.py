"""Sources of router documents: ``directory`` reads files, ``neutron`` asks neutron-server; ``api`` is their interface.

``factory`` opens the configured one.  The daemon follows its events (``dvr_agent.daemon.source_reader``), dvrctl reads
its documents.  Of the other modules all but ``cached_documents`` belong to ``directory``.
"""
