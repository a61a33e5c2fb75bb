"""Compute the way of a packet through the namespaces of a host from what was read of its kernel.  Pure: no I/O.

:mod:`.world` has the values that describe the kernel, :mod:`.packet` the packet and the way, :mod:`.engine` computes.
``kernel/survey`` reads a host into these values; ``dvrctl trace`` and ``dvrctl why`` use the result.
"""
