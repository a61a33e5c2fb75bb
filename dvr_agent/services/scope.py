"""Gives each helper process a control group of its own, a scope (systemd.scope(5)), where systemd runs.

In the control group of dvr-agent.service a helper, which outlives the agent on purpose, would be a "left-over process":
systemd warns of it at each start; in that of a login session it might be killed at the logout.  systemd-run(1) asks
for the scope, by the socket of the service manager, and then becomes the helper: no binding of D-Bus is needed.
"""

from __future__ import annotations

import os
import secrets
import shutil
from pathlib import Path

BOOTED = Path("/run/systemd/system")
"""Directory that exists if systemd is the service manager (sd_booted(3))."""
PROC = Path("/proc")


def command_in_scope(name: str, namespace: str) -> tuple[str, ...]:
    """Return the command that starts a helper in a scope, to be put before its command line; empty without systemd.

    :param name: name of the helper's program
    :param namespace: network namespace of the helper
    """
    runner = shutil.which("systemd-run") if _is_managed() else None
    if runner is None:
        return ()
    return (
        runner,
        "--scope",
        "--quiet",
        "--collect",
        f"--slice=system-{name}.slice",
        f"--unit={name}-{namespace}-{secrets.token_hex(4)}",
        f"--description={name} in {namespace}",
        "--",
    )


def _is_managed() -> bool:
    """Return True if systemd knows our process ids: from within a PID namespace it would move other processes."""
    try:
        return (
            BOOTED.is_dir()
            and (PROC / "1" / "comm").read_text().strip() == "systemd"
            and os.readlink(PROC / "self") == str(os.getpid())
        )
    except OSError:
        return False
