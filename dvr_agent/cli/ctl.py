"""``dvrctl``: the operator's command line.  Its manual: ``docs/dvrctl.md``.

This module has the parser; each verb has a module of its own, which is imported when the verb is used.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from dvr_agent import __version__
from dvr_agent.cli import exit_codes
from dvr_agent.cli.output import Output, OutputError, UsageError, complain
from dvr_agent.cli.status_text import STATES
from dvr_agent.errors import DvrError, LockedError

if TYPE_CHECKING:
    from dvr_agent.cli.web.listener import Address

FORMATS = ("table", "json")
"""Values of ``--output`` of every verb."""
DRAWINGS = ("dot", "mermaid", "svg")
"""Further ones of verbs that draw."""

HEADINGS = {
    "why": "when something does not work",
    "show": "what is there",
    "plan": "documents: check, compare, apply",
    "fetch": "changeover to and from neutron-l3-agent, removal",
    "web": "other",
}
"""First verb of a group → heading of the group in ``dvrctl --help``."""

Run = Callable[[argparse.Namespace, Output], int]

_SHORTEST_INTERVAL = 0.1
"""Seconds between two looks at the daemon."""
ROUTER_HELP = "id or name of the router, or as much of its beginning as is unique"

EXAMPLES = """\
  dvrctl why 203.0.113.10                   why does this floating IP not work?
  dvrctl status --only degraded             routers with a fault
  dvrctl check /etc/dvr-agent/routers/*.json
  dvrctl plan                               what the daemon would change now
  dvrctl -o json plan new.json | jq .total  what this document would change
  dvrctl capture --run 203.0.113.5          packets of a floating IP at every
                                            place, in one file
  dvrctl show rules qrouter-<uuid>          packet filter rules of dvr-agent
  dvrctl history 203.0.113.5 --since 1h     changes of a floating IP
  dvrctl cleanup --all --dry-run            objects of dvr-agent on this host
"""
EPILOG = f"""\
{exit_codes.of_all()}

Errors are single lines on stderr. There is no colour when piped, or with
NO_COLOR set. check, plan, show, capture, status, history,
trace and why never change anything.

examples:
{EXAMPLES}"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        if message.startswith("unrecognized arguments: --config-"):
            message += ": --config-file and --config-dir stand before the verb"
        self.exit(exit_codes.USAGE_ERROR, f"{self.prog}: {message} (see {self.prog} --help)\n")


class _Help(argparse.HelpFormatter):
    """Wraps the description, and prints the epilog, which begins with the exit codes, as it is."""

    def _format_action(self, action: argparse.Action) -> str:
        """Begin each group of verbs with its heading."""
        heading = HEADINGS.get(action.dest, "") if self._prog == "dvrctl" and not action.option_strings else ""
        text = super()._format_action(action)
        return f"\n  {heading}:\n{text}" if heading else text

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if text.startswith("exit codes") else super()._fill_text(text, width, indent)


class _Config(argparse.Action):
    """Keeps ``--config-file`` and ``--config-dir`` in the order given: later ones take precedence."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        namespace.config = [*namespace.config, str(option_string), values]


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of the whole command line."""
    parser = _Parser(
        prog="dvrctl",
        description="Show, check and change the kernel objects that dvr-agent makes for router documents on this host.",
        epilog=EPILOG,
        formatter_class=_Help,
        allow_abbrev=False,
    )
    parser.set_defaults(config=[], formats=FORMATS)
    parser.add_argument("--version", action="version", version=f"dvrctl {__version__}")
    where = "(as for dvr-agent; may be given several times, before the verb)"
    parser.add_argument("--config-file", action=_Config, dest="config", metavar="FILE", help=f"configuration {where}")
    parser.add_argument("--config-dir", action=_Config, dest="config", metavar="DIR", help=f"*.conf files {where}")
    parser.add_argument(
        "-o",
        "--output",
        choices=(*FORMATS, *DRAWINGS),
        default="table",
        metavar="FORMAT",
        help=f"{_list(FORMATS)}; default: table",
    )
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True, parser_class=_Parser)
    _add_why(verbs)
    _add_status(verbs)
    _add_history(verbs)
    _add_trace(verbs)
    _add_capture(verbs)
    _add_sync(verbs)
    _add_diag(verbs)
    _add_show(verbs)
    _add_document_verbs(verbs)
    _add_fetch(verbs)
    _add_handover(verbs)
    _add_cleanup(verbs)
    _add_web(verbs)
    _add_schema(verbs)
    _add_demo(verbs)
    _add_wants_metadata(verbs)
    return parser


def _add_document_verbs(verbs: Any) -> None:
    plan = _verb(
        verbs,
        "plan",
        "show the changes that the daemon would make; writes nothing",
        "plan:run_plan",
        "+ is added, - removed, ~ changed. Without FILE: all documents of the configured source, and stale objects of "
        "routers without a document.",
    )
    plan.add_argument("files", nargs="*", metavar="FILE", help="router document; - is standard input")
    check = _verb(
        verbs,
        "check",
        "validate router documents, or with --config the configuration",
        "check:run",
        "Nothing else is read. --config checks the files that --config-file and --config-dir name (before the verb), "
        "or the FILEs given: values, unknown groups and options, options without effect.",
        root=False,
    )
    check.add_argument("--config", action="store_true", dest="check_config", help="check configuration files")
    check.add_argument(
        "files", nargs="*", metavar="FILE", help="router document, - is standard input; or configuration file"
    )
    apply = _verb(
        verbs,
        "apply",
        "make the kernel agree with router documents, without the daemon",
        "plan:run_apply",
        "One reconcile for each document. Refused while the daemon runs.",
    )
    apply.add_argument("--yes", action="store_true", help="go on if routers are left alone")
    apply.add_argument("files", nargs="+", metavar="FILE", help="router document; - is standard input")


def _add_show(verbs: Any) -> None:
    show = _verb(verbs, "show", "show objects in the kernel and the configured documents", None)
    things = show.add_subparsers(dest="thing", metavar="WHAT", required=True, parser_class=_Parser)
    _verb(things, "routers", "all routers with a document or a namespace", "show:routers")
    router = _verb(
        things,
        "router",
        "one router: its document, and the objects in its namespaces",
        "show:router",
        "With dot, mermaid or svg: a drawing of its namespaces, devices and networks.",
        formats=(*FORMATS, *DRAWINGS),
    )
    router.add_argument("router", metavar="ROUTER", help=ROUTER_HELP)
    _verb(
        things,
        "topology",
        "all namespaces of this host, their devices and networks, and how they are connected",
        "topology:show",
        formats=(*FORMATS, *DRAWINGS),
    )
    _verb(things, "namespaces", "network namespaces of dvr-agent", "show:namespaces")
    _verb(
        things,
        "fips",
        "floating IPs, their hosts, and whether all of each is in the kernel",
        "show_fips:fips",
        "What is not as it should be is listed in the words of dvrctl plan.",
    )
    rules = _verb(
        things,
        "rules",
        "packet filter rules of dvr-agent in a namespace or a router, as iptables-save or nft prints them",
        "show:rules",
        "Legacy tables (see packet_filter in the configuration) are not what iptables-save shows where it is the nft "
        "variant; rules in nf_tables are those of nft list ruleset, and nft reads what is printed here.",
    )
    rules.add_argument(
        "subject",
        metavar="NAMESPACE|ROUTER",
        help=f"a namespace, e.g. qrouter-<uuid>, or its beginning; or {ROUTER_HELP}",
    )


def _add_capture(verbs: Any) -> None:
    capture = _verb(
        verbs,
        "capture",
        "print the tcpdump commands for every place that the packets of a floating IP or router pass",
        "capture:run",
        "With --run: capture at all of them at once, into one pcapng file with the names of the interfaces.",
    )
    capture.add_argument("subject", metavar="FIP|ROUTER", help=f"address or id of a floating IP; or {ROUTER_HELP}")
    capture.add_argument("--run", dest="record", action="store_true", help="run the commands; ends by Ctrl-C")
    capture.add_argument("-w", "--write", metavar="FILE", help="new file of --run; - is standard output")
    capture.add_argument("--seconds", type=_seconds, metavar="N", help="end --run after N seconds")
    capture.add_argument("--count", type=_count, metavar="N", help="end --run after N packets")


def _add_status(verbs: Any) -> None:
    status = _verb(
        verbs,
        "status",
        "show the state of the running daemon",
        "status:run",
        "The first lines say what it comes to; routers that need attention are listed first.",
    )
    status.add_argument(
        "--only",
        action="extend",
        nargs="+",
        default=[],
        choices=[state.replace(" ", "-") for state in STATES],
        metavar="STATE",
        help=f"list routers in these states only: {', '.join(state.replace(' ', '-') for state in STATES)}",
    )
    status.add_argument(
        "--watch",
        nargs="?",
        type=_interval,
        const=2.0,
        metavar="SECONDS",
        help="show it again and again, in place on a terminal, until Ctrl-C; default: every 2 s. The exit code is that "
        "of the last look. A daemon that is restarted meanwhile is waited for.",
    )


def _add_sync(verbs: Any) -> None:
    sync = _verb(
        verbs,
        "sync",
        "have the daemon try routers at once, with their newest documents",
        "sync:run",
        "Documents are listed again (with Neutron, neutron-server is asked), and each router is compared with the "
        "kernel, whatever its state: a failed one is not left to its next retry. Prints each router as it ends.",
    )
    sync.add_argument("router", nargs="?", metavar="ROUTER", help=f"{ROUTER_HELP}; default: all routers")
    sync.add_argument(
        "--timeout", type=_seconds, default=300.0, metavar="SECONDS", help="how long to wait for the end; default: 300"
    )


def _add_history(verbs: Any) -> None:
    history = _verb(
        verbs,
        "history",
        "show what the daemon has changed, and when",
        "history:run",
        "Rule by rule, in the words of plan; of drift, who had changed it, where the kernel tells. Without the daemon "
        "from its file. JSON: one object per line.",
    )
    history.add_argument(
        "subject",
        nargs="?",
        metavar="ROUTER|FIP",
        help="router id, namespace or name, or its beginning; or the address of a floating IP: changes that name it, "
        "and those of the router that has it",
    )
    history.add_argument(
        "--since", type=_since, default=0.0, metavar="TIME", help="90s, 30m, 1h, 2d, 1w, or a time: 2026-11-26 22:00"
    )
    history.add_argument("-n", "--lines", type=_number, metavar="N", help="only the newest N changes")
    history.add_argument("--follow", action="store_true", help="go on and show changes as they come")
    history.add_argument("--full", action="store_true", help="list all changes of the daemon's start, too")


def _add_why(verbs: Any) -> None:
    why = _verb(
        verbs,
        "why",
        "explain why a floating IP, an address or a router does not work on this host",
        "why.command:run",
        "Follows the packets from the document to the instance, one line for each place, and ends with the sentence "
        "that explains it and what to do. Reads only; works without the daemon, too.",
    )
    what = "address; or id, beginning of the id, or name of a router"
    why.add_argument("subject", metavar="FIP|ADDRESS|ROUTER", help=what)
    why.add_argument("--router", metavar="ROUTER", help="where several routers have the address: the one that is meant")
    probe = "also ask by ARP: instance, gateway, who else has the floating IP; and listen for VRRP masters"
    why.add_argument("--probe", action="store_true", help=probe)
    why.add_argument("--only-faults", action="store_true", help="leave out the lines that are ok")


def _add_fetch(verbs: Any) -> None:
    fetch = _verb(
        verbs,
        "fetch",
        "fetch neutron-server's documents of this host, for a plan before the daemon runs",
        "fetch:run",
        "Makes the requests that neutron-l3-agent makes at its start, and stores the documents where the daemon stores "
        "them. neutron-l3-agent may run meanwhile: no message is consumed and no state reported. Refused while the "
        "daemon runs, since it fetches documents itself.",
    )
    fetch.add_argument(
        "--timeout", type=_seconds, default=120.0, metavar="SECONDS", help="maximum time in all; default: 120"
    )


def _add_cleanup(verbs: Any) -> None:
    cleanup = _verb(
        verbs,
        "cleanup",
        "remove objects of dvr-agent from this host",
        "cleanup:run",
        "Without --router and --all: stale objects of routers that have no document. Refused while the daemon runs. "
        "Namespaces are removed with everything in them; other objects that are not dvr-agent's stay.",
    )
    what = cleanup.add_mutually_exclusive_group()
    what.add_argument("--router", type=_router_id, metavar="ID", help="remove the objects of this router")
    what.add_argument("--all", action="store_true", help="remove all objects of dvr-agent; asks first")
    cleanup.add_argument("--dry-run", action="store_true", help="only print the plan (works while the daemon runs)")
    cleanup.add_argument("--yes", action="store_true", help="do not ask")


def _add_handover(verbs: Any) -> None:
    handover = _verb(
        verbs,
        "handover",
        "give this host back to neutron-l3-agent",
        "handover:run",
        "Stop dvr-agent, start neutron-l3-agent, then run this: once neutron-l3-agent's packet filter rules of a "
        "namespace are complete, dvr-agent's are removed there. All other objects stay: they are as neutron-l3-agent "
        "makes them. Refused while dvr-agent runs.",
    )
    handover.add_argument(
        "--now",
        action="store_true",
        help="remove dvr-agent's rules at once, even if neutron-l3-agent's are not complete",
    )
    handover.add_argument("--dry-run", action="store_true", help="only print the plan (works while the daemon runs)")
    handover.add_argument(
        "--timeout", type=_seconds, default=900.0, metavar="SECONDS", help="how long to wait; default: 900"
    )


def _add_wants_metadata(verbs: Any) -> None:
    _verb(
        verbs,
        "wants-metadata",
        "print whether dvr-metadata-proxy is needed, for the condition of its unit",
        "wants_metadata:run",
        "Needed if enable_metadata_proxy is true; its default is true where the source is neutron.",
        root=False,
    )


def _add_schema(verbs: Any) -> None:
    schema = _verb(
        verbs,
        "schema",
        "print the JSON Schema of a verb's JSON output",
        "schema:run",
        "Without VERB: the names of all. Keys are only ever added to an output.",
        root=False,
    )
    schema.add_argument("name", nargs="*", metavar="VERB", help="e.g. plan, show fips, check-config, status")


def _add_trace(verbs: Any) -> None:
    trace = _verb(
        verbs,
        "trace",
        "show the way of a packet through namespaces, rules and translations, computed from the kernel's state",
        "trace:run",
        "Nothing is sent or changed without --live. What cannot be known on this host ends the way as unknown.",
    )
    trace.add_argument(
        "--from",
        dest="source",
        required=True,
        metavar="IP[%NAMESPACE[/DEVICE]]",
        help="source: an address of a namespace, an instance or a host outside; NAMESPACE (or its beginning) sends the "
        "packet, or it comes in by DEVICE; %%host is the host's own namespace",
    )
    trace.add_argument("--to", required=True, metavar="IP", help="destination, as the sender addresses it")
    trace.add_argument(
        "--proto", choices=("tcp", "udp", "icmp", "sctp", "dccp"), help="default: icmp; tcp with --dport"
    )
    trace.add_argument("--dport", type=_port, metavar="PORT", help="destination port")
    trace.add_argument(
        "--sport",
        type=_port,
        metavar="PORT",
        help="source port (icmp: identifier), of an existing connection too; default: a new one, --live: a free one",
    )
    trace.add_argument("--size", type=_size, default=84, metavar="BYTES", help="of the whole packet; default: 84")
    trace.add_argument(
        "--reply", action="store_true", help="the way of the answer, too; with --live only that of an echo"
    )
    trace.add_argument(
        "--live", action="store_true", help="send such a packet, and say of each hop whether the kernel confirms it"
    )


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) <= 0xFFFF:
        raise argparse.ArgumentTypeError(f"{text!r} is no port (1 to 65535)")
    return int(text)


def _size(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 28 <= int(text) <= 0xFFFF:
        raise argparse.ArgumentTypeError(f"{text!r} is no size of a packet (28 to 65535 bytes)")
    return int(text)


def _add_diag(verbs: Any) -> None:
    diag = _verb(
        verbs,
        "diag",
        "collect everything that is needed to understand a fault of this host, in one archive",
        "diag.command:run",
        "Status, history, plan, documents, kernel state, rules, versions, configuration, log, metrics. Secrets are "
        "masked. Changes nothing, and works without the daemon.",
    )
    diag.add_argument("--router", metavar="ROUTER", help="only this router: its id or name, or the beginning of one")
    diag.add_argument(
        "--file",
        metavar="FILE",
        help="the archive, - is stdout; default: dvr-diag-<host>-<time>.tar.gz in this directory",
    )


def _add_web(verbs: Any) -> None:
    web = _verb(
        verbs,
        "web",
        "serve a page about this host to a browser, on loopback, read only",
        "web.command:run",
        "Prints the address of the page, which has the token that a browser needs. From another host: ssh -L. "
        "dvr-agent-web.service serves the page all the time where [web] listen is set.",
    )
    web.add_argument(
        "--listen", type=_listen, metavar="ADDRESS:PORT", help="default: [web] listen, else 127.0.0.1:9699"
    )
    web.add_argument("--url", action="store_true", help="only print the address of the page that is served already")
    _verb(
        verbs,
        "wants-web",
        "print whether the page is to be served all the time, for the condition of its unit",
        "web.command:wanted",
        "It is where [web] listen is set.",
        root=False,
    )


def _add_demo(verbs: Any) -> None:
    _verb(
        verbs,
        "demo",
        "demonstrate a distributed virtual router",
        "demo:run",
        "In private network and mount namespaces that vanish at the end: this host is not touched. Starts the real "
        "daemon on a router document, and sends packets east-west, by floating IPs and by SNAT.",
        root=False,
    )


def _verb(
    verbs: Any,
    name: str,
    text: str,
    run: str | None,
    more: str = "",
    root: bool = True,
    formats: Sequence[str] = FORMATS,
) -> Any:
    """Add a verb.

    :param text: help text in the list of verbs, and first sentence of the verb's own help
    :param run: ``module:function`` below ``dvr_agent.cli``; None for a verb that only has verbs of its own
    :param more: further sentences of the verb's own help
    :param root: the verb needs root, and says so at once to anybody else
    :param formats: values of ``--output`` that it has
    """
    needs = f" Needs {'root' if root else 'no root'}." if run else ""
    parser = verbs.add_parser(
        name,
        help=text,
        description=f"{text[0].upper()}{text[1:]}. {more}".rstrip() + needs,
        epilog=exit_codes.of_verb(name),
        formatter_class=_Help,
        allow_abbrev=False,
    )
    output = parser.add_argument("-o", "--output", choices=(*FORMATS, *DRAWINGS), default=argparse.SUPPRESS)
    output.metavar, output.help = "FORMAT", f"{_list(formats)}; default: table"
    if run:
        parser.set_defaults(run=run, needs_root=root, formats=formats)
    return parser


def _list(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"


def _router_id(text: str) -> str:
    from dvr_agent.cli.cleanup import router_id

    try:
        return router_id(text)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(f"{text!r} is no router id (the whole UUID; see dvrctl show routers)") from exc


def _listen(text: str) -> Address:
    from dvr_agent.cli.web.listener import EXPECTED, parse_address

    try:
        return parse_address(text)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(f"{text!r}: expected {EXPECTED}") from exc


def _since(text: str) -> float:
    from dvr_agent.cli.history import since

    return since(text)


def _number(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no number of changes")
    return int(text)


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of packets")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds")
    return seconds


def _interval(text: str) -> float:
    return max(_seconds(text), _SHORTEST_INTERVAL)


def _open_missing_streams() -> None:
    """Open /dev/null in place of stdout or stderr if the caller closed them (``>&-``)."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - it is needed until the process ends


def _discard_output() -> None:
    """Redirect stdout to /dev/null: Python flushes stdout once more at exit, which must not fail."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line; ends the process if it is wrong."""
    parser = make_parser()
    args = parser.parse_args(argv)
    if args.output not in args.formats:
        verb = " ".join(filter(None, (args.verb, getattr(args, "thing", ""))))
        parser.error(f"{verb} has no output format {args.output}: {_list(args.formats)}")
    return args


def _run(args: argparse.Namespace) -> int:
    if args.needs_root and os.geteuid() != 0:
        complain(f"{args.verb} needs root: sudo dvrctl {args.verb} …")
        return exit_codes.NEEDS_ROOT
    module, _, function = args.run.partition(":")
    run: Run = getattr(importlib.import_module(f"dvr_agent.cli.{module}"), function)
    out = Output(args.output == "json")
    try:
        code = run(args, out)
    except LockedError as exc:
        raise LockedError(f"{args.verb} is refused while dvr-agent runs (systemctl stop dvr-agent): {exc}") from exc
    out.flush()
    return code


def main(argv: Sequence[str] | None = None) -> int:
    """Run dvrctl with these arguments (default: those of the process); returns the exit code."""
    _open_missing_streams()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        return _run(_parse(argv))
    except SystemExit as exc:
        return exc.code if isinstance(exc.code, int) else 0
    except OutputError as exc:
        _discard_output()
        complain(str(exc))
        return 1
    except DvrError as exc:
        complain(str(exc))
        return exit_codes.USAGE_ERROR if isinstance(exc, UsageError) else 1
    except BrokenPipeError:
        _discard_output()
        return exit_codes.PIPE_CLOSED
    except KeyboardInterrupt:
        complain("interrupted")
        return exit_codes.INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
