"""Route netlink (rtnetlink(7)) at the kernel's own speed: a plain socket, and a small codec per kind of object.

``socket`` sends batches and reads dumps; ``link``, ``address``, ``route``, ``rule`` and ``neighbour`` turn values into
requests and messages into values; ``message`` holds what they share.  Nothing here knows what is ours.

Why not pyroute2's own encoder: it is 10 to 20 times as expensive as the kernel's share of the work, and importing it
costs 23 MB and 0.4 s.  It is the oracle of ``tests/unit/test_netlink_codec.py``.
"""
