"""The tables of nf_tables that iptables-nft fills, read and cleared of another agent's chains; nothing is ever added.

:mod:`.message` has the numbers and the bytes, :mod:`.rules` turns a rule into the words of ``state.filter``,
:mod:`.sweep` decides what goes, :mod:`.manager` talks to the kernel.
"""
