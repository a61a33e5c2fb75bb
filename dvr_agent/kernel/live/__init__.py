"""Send one marked packet, and watch it at devices: for ``dvrctl trace --live``.

Nothing here stays in the kernel: all of it are sockets, which the kernel closes with the process, however it ends.
"""
