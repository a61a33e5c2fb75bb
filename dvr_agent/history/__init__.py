"""The history of changes: a ring in memory (``ring``), and a file that survives restarts (``file``, ``writer``).

An entry is a JSON object; :mod:`dvr_agent.reconcile.history_entries` makes entries of what the
daemon and ``dvrctl`` change, ``dvrctl history`` shows them.
"""
