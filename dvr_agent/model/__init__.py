"""Parses router documents into frozen, typed values (``router.Router``).  Pure: no I/O, the caller reads the bytes.

``parse.parse_document`` is the entry, used by sources and dvrctl; ``dvr_agent.desired`` computes with the values.
"""
