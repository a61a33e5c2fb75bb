"""Finds everything that is wrong with configuration files: for ``dvrctl check --config``, and for the daemon's start.

The daemon refuses a configuration for its first error.  Here the files are read as text as well, so that all errors are
found, with their lines: values, and what oslo.config ignores: groups and options that nothing reads.

Neutron's own files may be among them (neutron.conf, l3_agent.ini): they have many options of other programs, so unknown
ones are not reported in these, but in groups of this agent; see :func:`is_neutrons`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from oslo_config import cfg, iniparser

from dvr_agent import config, config_files, l3_agent_options, logs
from dvr_agent.config_files import Assignment, FileText
from dvr_agent.errors import ConfigError
from dvr_agent.known_options import KnownOptions


class Kind(StrEnum):
    """What is wrong; the texts are in the JSON of ``dvrctl check --config``."""

    UNREADABLE = "unreadable"
    SYNTAX = "syntax"
    VALUE = "value"
    UNKNOWN_GROUP = "unknown group"
    UNKNOWN_OPTION = "unknown option"
    DEPRECATED = "deprecated"
    NO_EFFECT = "no effect"
    UNSUPPORTED = "unsupported"

    @property
    def is_error(self) -> bool:
        """True if what the file says is not in force, and should be; the other kinds are notes."""
        return self not in (Kind.DEPRECATED, Kind.NO_EFFECT, Kind.UNSUPPORTED)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong.

    :ivar file: empty if it is in no file
    :ivar line: from 1 on; 0: the file as a whole
    :ivar text: group, option and what is wrong, without the file; secret values are not in it
    :ivar meant: the group or option that may have been meant; empty: none is like it
    """

    kind: Kind
    file: str
    line: int
    text: str
    meant: str = ""

    def __str__(self) -> str:
        place = ":".join([self.file, *([str(self.line)] if self.line else [])])
        return f"{place}: {self.text}" if self.file else self.text


NEUTRON_NAMES = frozenset({"neutron.conf", "l3_agent.ini", "ml2_conf.ini", "openvswitch_agent.ini"})
NEUTRON_DIRECTORY = "neutron"
NEUTRON_MARKS = frozenset({("DEFAULT", "core_plugin"), ("database", "connection"), ("DEFAULT", "service_plugins")})
"""Options that only a file of Neutron has."""
_OPTION = re.compile(r"\[(\w+)\] (\w+)")


def check(
    arguments: Sequence[str], files: Sequence[Path], others: Sequence[Callable[[cfg.ConfigOpts], object]] = ()
) -> list[Finding]:
    """Return all that is wrong with a configuration, in the order of files and lines.

    :param arguments: the command line arguments that name the files, for the daemon's own checks
    :param files: all files, in their order
    :param others: checks of programs other than the daemon; each raises ConfigError
    """
    found = list(_unreadable(files))
    found += _syntax(path for path in files if str(path) not in {one.file for one in found})
    if found:  # what the rest says is not known then
        return found
    texts = {path: config_files.read_file(path) for path in files}
    known = KnownOptions(whole=True)
    found = [*_values(files), *unknown(texts, known), *_without_effect(texts, known)]
    for refuse in (_refuse_as_daemon, logs.check, *others):
        found += _refused(refuse, arguments, texts, found)
    places = {str(path): number for number, path in enumerate(files)}
    return sorted(set(found), key=lambda one: (places.get(one.file, len(places)), one.line, one.text))


def find_unknown(files: Iterable[Path]) -> list[Finding]:
    """Return groups and options that nothing reads, for the daemon's start; files that cannot be read have none."""
    texts = {}
    for path in files:
        try:
            texts[path] = config_files.read_file(path)
        except iniparser.ParseError:
            continue
    return list(unknown(texts, KnownOptions()))


def unknown(texts: dict[Path, FileText], known: KnownOptions) -> Iterator[Finding]:
    """Yield groups and options that nothing reads; in files of Neutron only options in groups of ours."""
    for path, text in texts.items():
        neutrons = is_neutrons(path, text)
        for group, line in text.groups:
            if not neutrons and not known.has_group(group):
                meant = known.meant_group(group)
                yield Finding(Kind.UNKNOWN_GROUP, str(path), line, _unknown_text(f"[{group}]", "group", meant), meant)
        for group, option, assignment in text.assignments:
            if (known.is_ours(group) or not neutrons) and _is_unknown(group, option, known):
                meant = known.meant_option(group, option)
                named = _unknown_text(f"[{group}] {option}", "option", meant)
                yield Finding(Kind.UNKNOWN_OPTION, str(path), assignment.number, named, meant)


def _is_unknown(group: str, option: str, known: KnownOptions) -> bool:
    """Return True for an option that nothing reads, in a group that something reads."""
    ignored = l3_agent_options.is_ignored(group, option)
    return known.has_group(group) and not known.has_option(group, option) and not ignored


def is_neutrons(path: Path, text: FileText) -> bool:
    """Return True if a file is Neutron's own: by name or folder, links followed, or by options that no one else has."""
    real = path.resolve()
    if real.name in NEUTRON_NAMES or NEUTRON_DIRECTORY in real.parts[:-1]:
        return True
    return any((group, option) in NEUTRON_MARKS for group, option, _ in text.assignments)


def _unreadable(files: Iterable[Path]) -> Iterator[Finding]:
    for path in files:
        # A pipe can be read once, and here files are read several times.
        reason = "a pipe: expected a regular file" if path.is_fifo() else config_files.unreadable([path])
        if reason:
            yield Finding(Kind.UNREADABLE, str(path), 0, reason.removeprefix(f"{path}: "))


def _syntax(files: Iterable[Path]) -> Iterator[Finding]:
    """Yield the first line of each file that is neither a section nor an assignment; it may be a secret, not shown."""
    for path in files:
        try:
            config_files.read_file(path)
        except iniparser.ParseError as exc:
            yield Finding(Kind.SYNTAX, str(path), exc.lineno, f"{exc.msg}: expected [section] or option = value")


def _values(files: Sequence[Path]) -> Iterator[Finding]:
    options = config_files.all_options(config.make_options())
    for assignment, text in config_files.bad_values(options, config_files.read(files)):
        yield Finding(Kind.VALUE, str(assignment.file), assignment.number, text)


def _without_effect(texts: dict[Path, FileText], known: KnownOptions) -> Iterator[Finding]:
    """Yield deprecated names, functions that this agent lacks, and options of neutron-l3-agent without effect here."""
    everything = [(group, option, found) for text in texts.values() for group, option, found in text.assignments]
    in_force = {(group, option): found for group, option, found in everything}
    values = {name: ",".join(found.lines) for name, found in in_force.items()}
    sentences = l3_agent_options.unsupported_functions(values)
    told = {sentence.partition(" = ")[0] for sentence in sentences}
    for sentence in sentences:
        yield Finding(Kind.UNSUPPORTED, *_place(sentence, in_force), sentence)
    for group, option, found in everything:
        successor, name = known.successor(group, option), f"[{group}] {option}"
        if successor:
            renamed = f"{name}: deprecated, its name is now {successor}"
            yield Finding(Kind.DEPRECATED, str(found.file), found.number, renamed, successor)
        elif l3_agent_options.is_ignored(group, option) and not known.has_option(group, option) and name not in told:
            text = f"{name}: an option of neutron-l3-agent that has no effect here"
            yield Finding(Kind.NO_EFFECT, str(found.file), found.number, text)


def _refuse_as_daemon(conf: cfg.ConfigOpts) -> None:
    """Check what the daemon checks at its start.

    :raises ConfigError: the daemon would not start
    """
    settings = config.make_settings(conf)
    if settings.source.kind == "neutron":
        _make_bus(settings)


def _refused(
    refuse: Callable[[cfg.ConfigOpts], object],
    arguments: Sequence[str],
    texts: dict[Path, FileText],
    found: Sequence[Finding],
) -> Iterator[Finding]:
    """Yield the error for which a program would refuse the configuration, if it was not found yet."""
    try:
        refuse(config.load(arguments))
    except ConfigError as exc:
        text = str(exc)
        if any(one.kind.is_error and one.text in text for one in found):
            return
        assignments = {(g, o): assignment for one in texts.values() for g, o, assignment in one.assignments}
        file, line = _place(text, assignments)
        yield Finding(Kind.VALUE, file, line, text.removeprefix(f"{file}: "))


def _make_bus(settings: config.Settings) -> None:
    """Make the message bus, which connects nowhere, for the errors of its options.

    :raises ConfigError: the bus cannot be used as it is configured
    """
    from dvr_agent.sources.neutron.open import open_bus

    open_bus(settings).close()


def _place(text: str, assignments: dict[tuple[str, str], Assignment]) -> tuple[str, int]:
    """Return file and line of the first ``[group] option`` in a text that a file sets; empty and 0 if none does."""
    for group, option in _OPTION.findall(text):
        found = assignments.get((config_files.group_name(group), option))
        if found is not None:
            return str(found.file), found.number
    return "", 0


def _unknown_text(name: str, what: str, meant: str) -> str:
    shown = f"[{meant}]" if meant and what == "group" else meant
    return f"{name}: unknown {what}, ignored" + (f"; did you mean {shown}?" if meant else "")
