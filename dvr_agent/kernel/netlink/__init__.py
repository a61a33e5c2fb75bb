"""Netlink to the kernel: one transport for all families, and the messages of rtnetlink(7), a module per kind of object.

``transport`` sends batches and transactions and reads dumps; ``framing`` walks the buffers; ``schema`` compiles
pyroute2's message classes into struct calls.  ``link``, ``address``, ``route``, ``rule``, ``neighbour`` and ``nsid``
turn values into requests and messages into values; ``message`` holds what they share.  Messages of netfilter are in
``kernel/conntrack`` and ``kernel/nftables``.  Nothing here knows which objects are the agent's.

Why not pyroute2's own encoder and sockets: docs/performance.md.  Its ``encode()`` and ``decode()`` are the oracle of
the codec's tests.
"""
