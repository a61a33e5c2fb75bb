"""``dvr-agent``: the daemon's command line.

Exit codes: 0 stopped by a signal, 1 cannot run (the reason is one line), 2 wrong arguments.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

from dvr_agent import config, logs
from dvr_agent.daemon import service
from dvr_agent.errors import DvrError

LOG = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the daemon with these arguments (default: those of the process); returns the exit code."""
    try:
        conf = config.load(sys.argv[1:] if argv is None else argv)
        logs.setup(conf)
    except DvrError as exc:
        print(f"dvr-agent: {exc}", file=sys.stderr)
        return 1
    try:
        return service.run(conf)
    except DvrError as exc:
        reason = str(exc)
    # Not in the except block: oslo.log would append the exception, and every line would say it twice.
    LOG.error("%s", reason)
    if not logs.to_terminal() and not conf.use_json:
        print(f"dvr-agent: {reason}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
