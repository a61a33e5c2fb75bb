"""Process 1 of one emulated host: prepares its namespaces, says so, and reaps orphans until it is killed.

``python -m tests.support.cloud.hostinit <host name> <folder that stays visible> <file for process accounting>``,
started by ``Host`` under ``unshare``; a line on standard output says that it is ready.
"""

from __future__ import annotations

import signal
import socket
import sys
from pathlib import Path

from tests.support.cloud import sandbox


def main(name: str, folder: str, accounting: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's Ctrl-C is pytest's
    socket.sethostname(name)
    sandbox.private_run(Path(folder))
    sandbox.run("ip", "link", "set", "lo", "up")
    sandbox.count_processes(Path(accounting))
    print("ready", flush=True)
    sandbox.reap()


if __name__ == "__main__":
    main(*sys.argv[1:])
