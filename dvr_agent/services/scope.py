"""A control group of its own for each helper process, where systemd runs: a scope (systemd.scope(5)).

In the control group of dvr-agent.service a helper, which outlives the agent on purpose, would be a "left-over process"
that systemd warns of at each start; in that of a login session it might be killed at the logout.  systemd-run(1) asks
for the scope, by the socket of the service manager, and then becomes the helper: no binding of D-Bus is needed.
"""

from __future__ import annotations

import os
import secrets
import shutil
from pathlib import Path

BOOTED = Path("/run/systemd/system")
"""Is there where systemd is the service manager (sd_booted(3))."""
PROC = Path("/proc")


def command_in_scope(name: str, namespace: str) -> tuple[str, ...]:
    """Words to put before a helper's command line; none where there is no systemd to ask.

    :param name: of the helper's program
    :param namespace: that the helper runs in
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
    """True if process ids here are those that systemd knows: in a PID namespace it would move other processes."""
    try:
        return (
            BOOTED.is_dir()
            and (PROC / "1" / "comm").read_text().strip() == "systemd"
            and os.readlink(PROC / "self") == str(os.getpid())
        )
    except OSError:
        return False
