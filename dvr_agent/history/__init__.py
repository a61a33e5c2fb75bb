"""The history of changes: a ring in memory (``ring``), and a file that survives restarts (``file``, ``writer``).

An entry is a JSON object; :mod:`dvr_agent.daemon.history` makes entries, ``dvrctl history`` shows them.
"""
