"""``dvrctl``: the operator's tool.  The command line is described here; each verb lives in a module of its own,
imported when it is used.  ``docs/dvrctl.md`` is its manual.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from dvr_agent import __version__
from dvr_agent.cli.output import Output, OutputError, complain
from dvr_agent.errors import DvrError

USAGE_ERROR = 64
"""EX_USAGE of sysexits.h: 2 already means "there are changes"."""
INTERRUPTED = 128 + 2
"""What a shell reports for a process that SIGINT ended."""
PIPE_CLOSED = 128 + 13
"""The same for SIGPIPE."""

Run = Callable[[argparse.Namespace, Output], int]

EPILOG = f"""\
exit codes:
  check     0 all documents are fine         1 at least one is bad
  plan      0 in sync                        1 error            2 there are changes
            2 too: the newest document of a router cannot be used, and it keeps what it has
  apply     0 done                           1 error, or not everything was done
  show      0 shown                          1 error
  status    0 all in sync                    1 daemon not reachable
            2 something is pending or degraded, or a document is bad
  fetch     0 all documents are here         1 some are bad, or the server did not answer
  cleanup   0 done, or nothing to do         1 refused or failed
  handover  0 done, or nothing to do         1 refused, failed, or waited too long
  wants-metadata
            0 dvr-metadata-proxy is needed   1 it is not, or the configuration is wrong
  demo      0 all of it worked               1 something did not
  any       {USAGE_ERROR} wrong arguments   {INTERRUPTED} interrupted   {PIPE_CLOSED} output closed (| head)

Errors are single lines on stderr. There is no colour when piped, or with NO_COLOR set.
All but check and demo need root. check, plan, show and status never change anything.

examples:
  dvrctl check /etc/dvr-agent/routers/*.json
  dvrctl plan                               what the daemon would change now
  dvrctl -o json plan new.json | jq .total  what this document would change
  dvrctl show rules qrouter-<uuid>          our rules, where iptables-save shows none
  dvrctl cleanup --all --dry-run            what is ours on this host
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(USAGE_ERROR, f"{self.prog}: {message} (see {self.prog} --help)\n")


class _Config(argparse.Action):
    """Keeps ``--config-file`` and ``--config-dir`` in the order given: later ones win."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        namespace.config = [*namespace.config, str(option_string), values]


def make_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = _Parser(
        prog="dvrctl",
        description="Look at, check and change what dvr-agent makes of router documents on this host.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(config=[])
    parser.add_argument("--version", action="version", version=f"dvrctl {__version__}")
    where = "(as for dvr-agent; may be given several times, before the verb)"
    parser.add_argument("--config-file", action=_Config, dest="config", metavar="FILE", help=f"configuration {where}")
    parser.add_argument("--config-dir", action=_Config, dest="config", metavar="DIR", help=f"*.conf files {where}")
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table", help="default: table")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True, parser_class=_Parser)
    _add_document_verbs(verbs)
    _add_show(verbs)
    _add_other_verbs(verbs)
    return parser


def _add_document_verbs(verbs: Any) -> None:
    check = _verb(verbs, "check", "validate router documents; reads nothing else", "check:run")
    check.add_argument("files", nargs="+", metavar="FILE", help="router document; - is standard input")
    plan = _verb(
        verbs,
        "plan",
        "show what would be changed; writes nothing",
        "plan:run_plan",
        "+ is added, - removed, ~ changed. Without FILE all documents of the configured directory are looked at, and "
        "what is left over of routers without a document.",
    )
    plan.add_argument("files", nargs="*", metavar="FILE", help="router document; - is standard input")
    apply = _verb(
        verbs,
        "apply",
        "make the kernel agree with router documents, without the daemon",
        "plan:run_apply",
        "One reconcile for each document. Refuses while the daemon runs.",
    )
    apply.add_argument("files", nargs="+", metavar="FILE", help="router document; - is standard input")


def _add_show(verbs: Any) -> None:
    show = _verb(verbs, "show", "show what is there, from the kernel and the configured documents", None)
    things = show.add_subparsers(dest="thing", metavar="WHAT", required=True, parser_class=_Parser)
    _verb(things, "routers", "all routers", "show:routers")
    router = _verb(things, "router", "one router: its document and what is in its namespaces", "show:router")
    router.add_argument("id", metavar="ID", help="router id, or as much of its beginning as is unique")
    _verb(things, "namespaces", "network namespaces of ours", "show:namespaces")
    _verb(things, "fips", "floating IPs, where they belong and where the kernel has them", "show:fips")
    rules = _verb(
        things,
        "rules",
        "packet filter rules of ours in a namespace, in iptables-save syntax",
        "show:rules",
        "Ours are in the legacy tables: where iptables is the nft variant, iptables-save does not show them.",
    )
    rules.add_argument("namespace", metavar="NAMESPACE", help="e.g. qrouter-<uuid>")


def _add_other_verbs(verbs: Any) -> None:
    _verb(verbs, "status", "ask the running daemon how it is", "status:run")
    fetch = _verb(
        verbs,
        "fetch",
        "have neutron-server's documents of this host, for a plan before the daemon runs",
        "fetch:run",
        "Asks what neutron-l3-agent asks at its start, which may run meanwhile, and keeps the answers where the daemon "
        "keeps them. No message is consumed and no state reported. Refuses while the daemon runs: it does this itself.",
    )
    fetch.add_argument(
        "--timeout", type=_seconds, default=120.0, metavar="SECONDS", help="how long to wait in all; default: 120"
    )
    cleanup = _verb(
        verbs,
        "cleanup",
        "remove what is ours from this host",
        "cleanup:run",
        "Without --router and --all: what is left over of routers that have no document. Refuses while the daemon "
        "runs. Namespaces are removed with all that is in them; nothing else that is not ours is touched.",
    )
    what = cleanup.add_mutually_exclusive_group()
    what.add_argument("--router", type=_router_id, metavar="ID", help="what is of this router")
    what.add_argument("--all", action="store_true", help="everything; asks first")
    cleanup.add_argument("--dry-run", action="store_true", help="only show it (works while the daemon runs)")
    cleanup.add_argument("--yes", action="store_true", help="do not ask")
    handover = _verb(
        verbs,
        "handover",
        "give this host back to neutron-l3-agent",
        "handover:run",
        "Stop dvr-agent, start neutron-l3-agent, then run this: as soon as its packet filter rules do in a namespace "
        "what ours do, ours are removed there. All else stays: it is as neutron-l3-agent would have made it. Refuses "
        "while dvr-agent runs.",
    )
    handover.add_argument("--now", action="store_true", help="remove ours at once, ready or not")
    handover.add_argument("--dry-run", action="store_true", help="only show it (works while the daemon runs)")
    handover.add_argument(
        "--timeout", type=_seconds, default=900.0, metavar="SECONDS", help="how long to wait; default: 900"
    )
    _verb(
        verbs,
        "wants-metadata",
        "say whether the configuration wants dvr-metadata-proxy, for its unit",
        "wants_metadata:run_metadata",
        "As enable_metadata_proxy says, which is true where the source is neutron.",
    )
    _verb(
        verbs,
        "demo",
        "see a distributed virtual router work",
        "demo:run",
        "In private network and mount namespaces that vanish at the end: this host is not touched. Starts the real "
        "daemon on a router document, and sends packets east-west, by floating IPs and by SNAT.",
    )


def _verb(verbs: Any, name: str, text: str, run: str | None, more: str = "") -> Any:
    """:param run: ``module:function`` below ``dvr_agent.cli``, None for a verb that only has verbs of its own"""
    parser = verbs.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}. {more}", allow_abbrev=False)
    parser.add_argument("-o", "--output", choices=("table", "json"), default=argparse.SUPPRESS, help="default: table")
    if run:
        parser.set_defaults(run=run)
    return parser


def _router_id(text: str) -> str:
    from dvr_agent.cli.cleanup import router_id

    try:
        return router_id(text)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(f"{text!r} is no router id (the whole UUID; see dvrctl show routers)") from exc


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds")
    return seconds


def _open_missing_streams() -> None:
    """A caller may have closed stdout or stderr (``>&-``): what would go there goes nowhere."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - it is needed until the process ends


def _discard_output() -> None:
    """Python flushes stdout once more at exit; there must be something it can flush to."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main(argv: Sequence[str] | None = None) -> int:
    """Run dvrctl with these arguments (default: those of the process); returns the exit code."""
    _open_missing_streams()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        args = make_parser().parse_args(argv)
        module, _, function = args.run.partition(":")
        run: Run = getattr(importlib.import_module(f"dvr_agent.cli.{module}"), function)
        out = Output(args.output == "json")
        code = run(args, out)
        out.flush()
        return code
    except SystemExit as exc:
        return exc.code if isinstance(exc.code, int) else 0
    except OutputError as exc:
        _discard_output()
        complain(str(exc))
        return 1
    except DvrError as exc:
        complain(str(exc))
        return 1
    except BrokenPipeError:
        _discard_output()
        return PIPE_CLOSED
    except KeyboardInterrupt:
        complain("interrupted")
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
