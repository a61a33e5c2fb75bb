"""``dvrctl history``: shows what the daemon and dvrctl have changed, and when.

The entries come from the file of the history and, as far as they are not in it yet, from the running daemon; without
the daemon from the file alone.  ``dvr_agent.reconcile.history_entries`` says what an entry has.
"""

from __future__ import annotations

import argparse
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NoReturn

from oslo_config import cfg

from dvr_agent.cli.admin_client import AdminClient, UnreachableError
from dvr_agent.cli.inputs import load_config, read_source
from dvr_agent.cli.output import BOLD, RED, Output, complain
from dvr_agent.cli.render import counts_text, group_lines
from dvr_agent.cli.subjects import find_router
from dvr_agent.errors import DvrError
from dvr_agent.history.file import history_path, read
from dvr_agent.model.router import Router
from dvr_agent.model.values import canonical_id
from dvr_agent.reconcile.plan_lines import Group, Line

FOLLOW_SECONDS = 1.0
"""Pause between two questions for new entries."""
SHORT = 10
"""Changes of the daemon's start that are listed at most without ``--full``."""
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}

REMOVED = "removed"
"""State of a router that is gone: its lines say so."""

Entry = dict[str, Any]


class HistoryError(DvrError):
    """The history cannot be shown."""


def run(args: argparse.Namespace, out: Output) -> int:
    """Run ``dvrctl history``."""
    conf = load_config(args)
    client = AdminClient.of(conf)
    reader = HistoryReader(history_path(conf.state_path, conf.host), client)
    entries = reader.entries()
    _warn(reader)
    wanted = _filter(args.subject, conf, entries, out) if args.subject else _all
    shown = [entry for entry in entries if entry["time"] >= args.since and wanted(entry)]
    if args.lines is not None:
        shown = shown[max(len(shown) - args.lines, 0) :]
    for entry in shown:
        _show(out, entry, args.full)
    if args.follow:
        _follow(reader, client, wanted, out, args.full)
    elif not shown and not out.json:
        out.line("no changes")
    return 0


def _warn(reader: HistoryReader) -> None:
    """Say on stderr that the daemon does not run, or cannot write the file.

    :raises HistoryError: there is neither a daemon nor a file
    """
    if not reader.reachable and not reader.path.exists():
        raise HistoryError(f"{reader.why_unreachable}, and there is no {reader.path}")
    if not reader.reachable:
        complain(f"{reader.why_unreachable}; changes are shown from {reader.path}")
    elif reader.trouble:
        complain(f"warning: {reader.trouble}")


def _follow(
    reader: HistoryReader, client: AdminClient, wanted: Callable[[Entry], bool], out: Output, full: bool
) -> NoReturn:
    """Show changes as they come, until the process is interrupted."""
    while True:
        out.flush()
        time.sleep(FOLLOW_SECONDS)
        client.forget()
        for entry in reader.entries():
            if wanted(entry):
                _show(out, entry, full)


class HistoryReader:
    """Reads the entries, each once.

    :ivar reachable: the daemon has answered the last time
    :ivar trouble: what the daemon says of its file
    """

    def __init__(self, path: Path, client: AdminClient) -> None:
        self.path, self._client = path, client
        self._last = 0
        self._read: tuple[int, ...] = ()
        """Inode, size and time of the file when it was read."""
        self._begun = False
        self.reachable, self.why_unreachable, self.trouble = True, "", ""

    def entries(self) -> list[Entry]:
        """Return the entries that are new since the last call, oldest first.

        :raises HistoryError: neither the file nor the daemon has a readable history
        """
        found: dict[int, Entry] = {}
        if not self._begun:
            found = self._note(self._of_file())
        found |= self._note(self._of_daemon())
        if self._begun and not self.reachable:
            found |= self._note(self._of_file())
        self._begun = True
        return [found[seq] for seq in sorted(found)]

    def _note(self, entries: Iterable[Entry]) -> dict[int, Entry]:
        """Return entries by their numbers, and note the last one."""
        found = {entry["seq"]: entry for entry in entries}
        self._last = max(found, default=self._last)
        return found

    def _of_file(self) -> Iterator[Entry]:
        """Yield the new entries of the file, nothing if it is as it was."""
        try:
            found = os.stat(self.path)
            now = (found.st_ino, found.st_size, found.st_mtime_ns)
            if now != self._read:
                yield from (entry for _line, entry in read(self.path) if entry["seq"] > self._last)
            self._read = now
        except FileNotFoundError:
            return
        except OSError as exc:
            needs_root = " (needs root)" if isinstance(exc, PermissionError) else ""
            raise HistoryError(f"{self.path} cannot be read: {exc.strerror}{needs_root}") from exc

    def _of_daemon(self) -> list[Entry]:
        """Return the new entries of the running daemon."""
        after = self._last
        found: list[Entry] = []
        try:
            while True:
                answer = self._client.ask(f"/history?after={after}")
                entries: list[Entry] = answer.get("entries") or []
                self.trouble = str(answer.get("trouble") or "")
                if answer.get("last", after) < after:  # its file was lost: it counts anew
                    self._last = after = 0
                    continue
                found += entries
                if not entries:
                    break
                after = entries[-1]["seq"]
            self.reachable = True
        except UnreachableError as exc:
            self.reachable, self.why_unreachable = False, str(exc)
        return found


def since(text: str) -> float:
    """Return the time that ``--since`` means, in seconds since the epoch: ``90s``, ``30m``, ``2d``, or a date."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", text)
    if match:
        return time.time() - float(match[1]) * UNITS[match[2]]
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        expected = "expected 90s, 30m, 1h, 2d, 1w or a time such as 2026-11-26 22:00"
        raise argparse.ArgumentTypeError(f"{text!r}: {expected}") from None


def _all(_entry: Entry) -> bool:
    return True


def _filter(subject: str, conf: cfg.ConfigOpts, entries: Iterable[Entry], out: Output) -> Callable[[Entry], bool]:
    """Return what chooses the entries of a router or of a floating IP.

    :raises HistoryError: no router has this id or name, or several have
    """
    try:
        address = str(ip_address(subject))
    except ValueError:
        router_id = _router(subject, conf, entries)
        return lambda entry: entry["router"] == router_id or router_id in str(entry.get("namespaces"))
    routers = _routers_with(address, conf)
    if not out.json:
        for router_id, name in routers.items():
            out.line(f"floating IP {address} is of router {router_id}" + (f" ({name})" if name else ""))
    about = about_address(entries, address)
    return lambda entry: entry["router"] in routers or about(entry)


def about_address(entries: Iterable[Entry], address: str) -> Callable[[Entry], bool]:
    """Return what chooses the entries that name an address, and removals of routers that had it, which do not."""
    routers = {entry["router"] for entry in entries if entry["router"] and mentions(entry, address)}
    return lambda entry: mentions(entry, address) or (entry.get("state") == REMOVED and entry["router"] in routers)


def mentions(entry: Entry, address: str) -> bool:
    """Return True if a change of an entry names an address."""
    pattern = rf"(?<![\w.:]){re.escape(address)}(?![\w:]|\.\d)"
    return re.search(pattern, str(entry.get("namespaces"))) is not None


def _router(subject: str, conf: cfg.ConfigOpts, entries: Iterable[Entry]) -> str:
    """Return the id of a router, also of one that is gone: the history knows it.

    :param subject: a whole id, or what :func:`~dvr_agent.cli.subjects.find_router` takes
    :raises NotFoundError: no router is meant, or several are
    """
    whole = canonical_id(subject)
    if whole is not None:
        return whole
    known: dict[str, str] = {entry["router"]: str(entry.get("name") or "") for entry in entries if entry["router"]}
    return find_router(subject, _documents(conf) | known)


def _documents(conf: cfg.ConfigOpts) -> dict[str, str]:
    """Return id → name of the routers that have a document; none if documents cannot be listed."""
    try:
        return read_source(conf).names()
    except DvrError as exc:
        complain(f"warning: {exc}")
        return {}


def _routers_with(address: str, conf: cfg.ConfigOpts) -> dict[str, str]:
    """Return id → name of the routers whose document has a floating IP of this address."""
    try:
        documents = read_source(conf)
    except DvrError as exc:
        complain(f"warning: {exc}")
        return {}
    return {router.id: router.name for _name, router in documents.good if address in _floating_ips(router)}


def _floating_ips(router: Router) -> set[str]:
    """Return the addresses of a router's floating IPs, also of those that port forwardings use."""
    own = {str(fip.address) for fip in (*router.omitted_floating_ips, *router.floating_ips)}
    return own | {str(fip.address) for fip in router.features.forwarding_ips}


def _show(out: Output, entry: Entry, full: bool) -> None:
    """Print an entry; of a long one of the daemon's start only the first line, but where ``full`` asks for all."""
    if out.json:
        out.json_line(entry)
        return
    groups = [_group(group) for group in entry.get("namespaces") or []]
    changes = sum(len(group.lines) for group in groups)
    if entry.get("job") == "start" and changes > SHORT and not full:
        out.line(f"{title(entry)} (--full lists them)", BOLD)
        groups = []
    else:
        out.line(title(entry), BOLD)
    for group in groups:
        for text in group_lines(group):
            out.line(text)
    for by in entry.get("by") or []:
        out.line(f"  heard: {by.get('text')}{_author(by)}")
    if entry.get("reason"):
        out.line(f"  {entry.get('state')}: {entry['reason']}", RED)


def title(entry: Entry) -> str:
    """Return an entry in one line: time, router, job, numbers of changes."""
    groups = [_group(group) for group in entry.get("namespaces") or []]
    when = datetime.fromtimestamp(entry["time"]).isoformat(" ", "milliseconds")
    name = f" ({entry['name']})" if entry.get("name") else ""
    subject = f"router {entry['router']}{name}" if entry["router"] else "host"
    counts: Counter[str] = Counter()
    for group in groups:
        counts.update(
            [group.sign] if group.sign != "~" else [],
        )
        counts.update(line.sign for line in group.lines)
    parts = [counts_text(counts, done=True) or "nothing changed"]
    if entry.get("milliseconds"):
        parts.append(f"{entry['milliseconds']:.1f} ms")
    state = "" if entry.get("state") == REMOVED else entry.get("state")
    parts += [str(part) for part in (state, entry.get("vrrp"), entry.get("request_id")) if part]
    return f"{when} {subject}: {entry.get('job')}: {'; '.join(parts)}"


def _group(value: dict[str, Any]) -> Group:
    lines = (
        Line(str(one["action"]), str(one["kind"]), str(one["text"]), str(one["was"] or "")) for one in value["changes"]
    )
    return Group(str(value["name"]), str(value["action"]), tuple(lines))


def _author(by: dict[str, Any]) -> str:
    process = f"process {by['pid']}" if by.get("pid") else ""
    process = f"{by['program']} ({process})" if by.get("program") else process
    protocol = f"protocol {by['protocol']}" if by.get("protocol") else ""
    text = ", ".join(filter(None, (process, protocol)))
    return f", by {text}" if text else ""
