"""Values that describe the contents of a namespace, desired or observed.  Pure.

``desired`` makes the desired states, ``kernel`` the observed ones.  One module per kind of object has its type, its
text in iproute2's or iptables' terms, and its ``Kind``: identity, equality, order, ownership.  ``namespace`` lists the
kinds and has the whole state, ``ownership`` decides which of the objects found in the kernel are ours, ``diff``
compares two states, ``order`` sorts the changes, ``slices`` cuts one read of a shared namespace.

The netlink kinds are ``NamedTuple``: they are made by the thousand when the kernel is read, and compared and
hashed at C speed.  Addresses and networks are canonical text as :mod:`ipaddress` writes it
(``10.0.0.1``, ``2001:db8::/64``).
"""
