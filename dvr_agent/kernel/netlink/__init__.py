"""Netlink to the kernel: one transport for all families, and the messages of rtnetlink(7), a module per kind of object.

``transport`` sends batches and transactions and reads dumps over the socket of ``endpoint``; ``framing`` walks the
buffers; ``schema`` compiles pyroute2's message classes into struct calls; ``handler`` says how a kind is read and
written.  ``link``, ``address``, ``route``, ``rule``, ``neighbour`` and ``nsid`` turn values into requests and messages
into values; ``message`` has the parts that they share.  Messages of netfilter are in ``kernel/conntrack`` and
``kernel/nftables``.  Nothing here knows which objects are the agent's.

Why not pyroute2's own encoder and sockets: docs/performance.md.  The codec's tests compare with
its ``encode()`` and ``decode()``.
"""
