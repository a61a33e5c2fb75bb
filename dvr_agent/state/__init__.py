"""The one vocabulary for what a namespace holds: planner, observer, differ, applier and printer share it.

Pure values, no I/O.  One module per kind of object holds its type, its identity (what makes it "the same one")
and its text in iproute2 or iptables words.  ``namespace`` puts them together, ``ownership`` says which of the
objects found in the kernel are ours, ``diff`` compares two states.

The netlink kinds are ``NamedTuple``: they are made by the thousand when the kernel is read, and compared and
hashed at C speed.  Addresses and networks are canonical text as :mod:`ipaddress` writes it
(``10.0.0.1``, ``2001:db8::/64``), parsed from documents long before they get here.
"""
