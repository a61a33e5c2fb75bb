"""Read and write the Linux kernel: namespaces, links, routes, tables, connections.  Knows no routers.

:mod:`.api` has the interfaces, :mod:`.linux` opens the real kernel behind them, :mod:`.fake` one in memory.
"""

from dvr_agent import late_packages

late_packages.install()
