"""``dvr-agent``: runs the daemon (``dvr_agent.daemon.service``) with the configuration of the command line.

Exit codes: 0 stopped by a signal, 1 cannot run now (the reason is one line), 2 wrong arguments, 78 (EX_CONFIG) the
configuration cannot be used.

Most of a start is importing.  So libraries are imported within :func:`main`: after the signals that must not end the
process have handlers, and without garbage collections, which would traverse what no import makes garbage of.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from dvr_agent import first_signals, late_packages

if TYPE_CHECKING:
    from dvr_agent.config import Settings
    from dvr_agent.daemon.parts import Parts

PROG = "dvr-agent"


def main(argv: Sequence[str] | None = None, open_parts: Callable[[Settings], Parts] | None = None) -> int:
    """Run the daemon with these arguments (default: those of the process); returns the exit code.

    :param open_parts: opens reconciler, source and the other parts of the daemon; tests replace the kernel
    """
    first_signals.survive()
    late_packages.install()
    gc.disable()
    try:
        return _run(sys.argv[1:] if argv is None else argv, open_parts)
    finally:
        gc.enable()


def _run(argv: Sequence[str], open_parts: Callable[[Settings], Parts] | None) -> int:
    import logging

    from dvr_agent import config, config_files, logs
    from dvr_agent.daemon import parts, service
    from dvr_agent.errors import DvrError, exit_code

    try:
        conf = config.load(argv)
    except DvrError as exc:
        logs.complain(PROG, str(exc))
        return exit_code(exc)
    try:
        logs.setup(conf)
    except DvrError as exc:
        logs.complain(PROG, config_files.with_file(conf, str(exc)))
        return exit_code(exc)
    try:
        return service.run(conf, open_parts or parts.open_parts)
    except DvrError as exc:
        reason, code = config_files.with_file(conf, str(exc)), exit_code(exc)
    # Not in the except block: oslo.log would append the exception, which the line contains already.
    logging.getLogger(__name__).error("%s", reason)
    if not logs.to_terminal() and not conf.use_json:
        logs.complain(PROG, reason)
    return code


if __name__ == "__main__":
    sys.exit(main())
