"""``dvr-agent``: runs the daemon (``dvr_agent.daemon.service``) with the configuration of the command line.

Exit codes: 0 stopped by a signal, 1 cannot run now (the reason is one line), 2 wrong arguments, 78 (EX_CONFIG) the
configuration cannot be used.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

from dvr_agent import config, config_files, logs
from dvr_agent.daemon import service
from dvr_agent.daemon.parts import open_parts
from dvr_agent.errors import DvrError, exit_code

LOG = logging.getLogger(__name__)

PROG = "dvr-agent"


def main(argv: Sequence[str] | None = None, open_parts: service.OpenParts = open_parts) -> int:
    """Run the daemon with these arguments (default: those of the process); returns the exit code.

    :param open_parts: opens reconciler, source and the other parts of the daemon; tests replace the kernel
    """
    logs.survive_signals()
    try:
        conf = config.load(sys.argv[1:] if argv is None else argv)
    except DvrError as exc:
        logs.complain(PROG, str(exc))
        return exit_code(exc)
    try:
        logs.setup(conf)
    except DvrError as exc:
        logs.complain(PROG, config_files.with_file(conf, str(exc)))
        return exit_code(exc)
    try:
        return service.run(conf, open_parts)
    except DvrError as exc:
        reason, code = config_files.with_file(conf, str(exc)), exit_code(exc)
    # Not in the except block: oslo.log would append the exception, which the line contains already.
    LOG.error("%s", reason)
    if not logs.to_terminal() and not conf.use_json:
        logs.complain(PROG, reason)
    return code


if __name__ == "__main__":
    sys.exit(main())
