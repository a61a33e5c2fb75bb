"""The attach driver for Open vSwitch: ports of the integration bridge, made by OVSDB transactions.

``open`` checks the configuration and puts the driver together; the rest needs the extra ``dvr-agent[ovs]`` and is
imported by it alone.  ``driver`` is the :class:`~dvr_agent.attach.api.AttachDriver`, ``plugging`` one call of ``plug``,
``rows`` what is right and wrong about a row, ``edits`` what is written.  ``database`` is what is known and done, on top
of ``connection`` (the library's copy of the rows, and its thread) and ``transaction`` (a change that ends in time);
``alarm`` is how others learn that something happened.
"""
