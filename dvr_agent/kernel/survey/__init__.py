"""Read everything of a host that decides where a packet goes, of any owner: the values of :mod:`dvr_agent.trace.world`.

For ``dvrctl trace`` and ``dvrctl why``, which run once: messages are decoded by pyroute2 itself, which knows all
attributes.  The daemon reads only what is its own, by ``kernel/observe.py``.
"""
