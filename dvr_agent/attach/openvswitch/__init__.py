"""The attach driver for Open vSwitch: ports of the integration bridge, made by OVSDB transactions.

``factory`` checks the configuration and makes the driver; the other modules need the extra ``dvr-agent[ovs]``, and
``factory`` alone imports them (through ``library``).  ``driver`` is the :class:`~dvr_agent.attach.api.AttachDriver`,
``plugging`` one call of ``plug``, ``port_edits`` the changes that it writes, ``rows`` the values of a port and their
faults.

``database`` reads and writes rows, with: ``connection`` (the library's copy of the rows, and its thread),
``row_index`` (rows by name), ``progress`` (how far ovs-vswitchd has got), ``external_changes`` (ports that
another program changed) and ``transaction`` (with a time limit).
"""
