"""The attach driver for Open vSwitch: ports of the integration bridge, made by OVSDB transactions.

``factory`` checks the configuration and puts the driver together; the rest needs the extra ``dvr-agent[ovs]`` and is
imported by it alone (``library``).  ``driver`` is the :class:`~dvr_agent.attach.api.AttachDriver`, ``plugging`` one
call of ``plug``, ``port_edits`` the changes that it writes, ``rows`` the values of a port and their faults.

``database`` answers and writes, on top of: ``connection`` (the library's copy of the rows, and its thread),
``row_index`` (rows by name), ``progress`` (how far ovs-vswitchd has got), ``external_changes`` (ports that
changed without us) and ``transaction`` (a change that ends in time).
"""
