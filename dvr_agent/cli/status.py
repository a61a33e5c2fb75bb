"""``dvrctl status``: shows the status of the running daemon, once or again and again."""

from __future__ import annotations

import argparse
from typing import Any

from oslo_config import cfg

from dvr_agent.cli.admin_client import AdminClient, UnreachableError
from dvr_agent.cli.inputs import load_config
from dvr_agent.cli.output import RED, Output
from dvr_agent.cli.status_text import is_fine, show
from dvr_agent.cli.watch import clock, watch

UNREACHABLE = 1


def run(args: argparse.Namespace, out: Output) -> int:
    """Run ``dvrctl status``.

    :returns: 0: all in sync; 1: the daemon is not reachable; 2: something is pending or degraded
    """
    conf = load_config(args)
    only = tuple(state.replace("-", " ") for state in args.only)
    look = _Look(conf, only)
    return look.once(out) if args.watch is None else watch(look.again, args.watch, out)


class _Look:
    """One look at the daemon after the other.

    :param only: states of the routers that are listed; none: all
    """

    def __init__(self, conf: cfg.ConfigOpts, only: tuple[str, ...]) -> None:
        self._conf, self._only = conf, only
        self._last = ""
        """Time and state of the last answer."""

    def once(self, out: Output) -> int:
        """Print the status; returns the exit code.

        :raises UnreachableError: the daemon does not answer
        """
        status = AdminClient.of(self._conf).ask("/status")
        self._last = f"{status.get('state')} at {clock()}"
        if out.json:
            out.document(self._filtered(status))
        else:
            show(out, status, self._only)
        return 0 if is_fine(status) else 2

    def again(self, out: Output) -> int:
        """Print the status, or that the daemon does not answer: it may be restarted while somebody looks on."""
        try:
            return self.once(out)
        except UnreachableError as exc:
            if out.json:
                out.document({"state": "unreachable", "error": str(exc)})
            else:
                out.line(str(exc), RED)
                out.line(f"last state   {self._last or 'none yet'}")
            return UNREACHABLE

    def _filtered(self, status: dict[str, Any]) -> dict[str, Any]:
        if not self._only:
            return status
        return {**status, "routers": [one for one in status.get("routers") or [] if one.get("state") in self._only]}
