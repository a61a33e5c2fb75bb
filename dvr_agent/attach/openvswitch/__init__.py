"""The attach driver for Open vSwitch: ports of the integration bridge, made by OVSDB transactions.

``factory`` checks the configuration and makes the driver; the other modules need the extra ``dvr-agent[ovs]``, and
``factory`` alone imports them (through ``library``).  ``driver`` is the :class:`~dvr_agent.attach.api.AttachDriver`,
``plugging`` one call of ``plug``, ``port_edits`` the changes that it writes, ``rows`` the values of a port and their
faults.

``database`` reads and writes rows, with: ``connection`` (session with the server, its thread, transactions),
``rows_copy`` (the copy of the rows, and what an update changes), ``schema`` (which columns), ``row_index`` (rows by
name), ``progress`` (how far ovs-vswitchd has got) and ``external_changes`` (ports that another program changed).
``json_stream`` decodes messages where python-ovs lacks its decoder in C.
"""
