"""Reads configuration files with oslo.config, and as text for error messages that name file, option and value.

An error of oslo.config names neither the file of a bad value (it names the last file that has the section) nor the
value, and some errors are only written on stderr before the process ends.  So the files are searched for
the bad value.  Used by ``config`` and by dvr-metadata-proxy.
"""

from __future__ import annotations

import contextlib
import io
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from oslo_config import cfg, iniparser, types

from dvr_agent import __version__, named_files
from dvr_agent.errors import ConfigError

PROJECT = "dvr-agent"
_BAD_ARGUMENTS = 2
"""Exit code of argparse."""
_SHOWN_CHARACTERS = 80
"""Maximum number of a value's characters in a message."""
_OPTION = re.compile(r"\[(\w+)\] (\w+)")


class Assignment(NamedTuple):
    """One assignment in a file.

    :ivar lines: the lines of the value: the first one and its continuation lines
    :ivar number: of the line on which it begins, from 1 on
    """

    file: Path
    lines: list[str]
    number: int = 0


Assignments = dict[tuple[str, str], Assignment]
"""Group, as oslo.config spells it, and option → the last assignment."""


class FileText(NamedTuple):
    """What stands in one file, in its order.

    :ivar groups: (group, number of its line)
    :ivar assignments: (group, option, assignment); also those that a later one replaces
    """

    groups: list[tuple[str, int]]
    assignments: list[tuple[str, str, Assignment]]


def parse(
    conf: cfg.ConfigOpts, args: Sequence[str], prog: str, default_files: Sequence[str], default_dirs: Sequence[str]
) -> None:
    """Read a command line, and the files that it names, into ``conf``, on which all options are registered.

    :param default_files: read if the command line names no file
    :param default_dirs: likewise for directories of files
    :raises ConfigError: naming the file, and the option with its value
    :raises SystemExit: the command line is wrong, or asks for help or the version
    """
    _refuse_irregular(files_named(args, default_files, default_dirs))
    stderr = io.StringIO()
    reason, code, current = "", None, None
    try:
        with contextlib.redirect_stderr(stderr):
            conf(
                list(args),
                project=PROJECT,
                prog=prog,
                version=__version__,
                default_config_files=list(default_files),
                default_config_dirs=list(default_dirs),
            )
        for current in all_options(conf):
            group, opt = current
            getattr(conf if group == "DEFAULT" else conf[group], opt.dest)
    except SystemExit as exc:
        reason, code = stderr.getvalue().strip(), exc.code
    except (cfg.Error, ValueError, OSError) as exc:
        reason = str(exc)
    else:
        return
    if code == 0 or code == _BAD_ARGUMENTS:
        sys.stderr.write(stderr.getvalue())
        raise SystemExit(code)
    files = files_named(args, default_files, default_dirs)
    wrong_text = unreadable(files) or bad_line(files)
    reason = wrong_text or bad_value(all_options(conf), files) or bad_reference(current, files) or reason
    raise ConfigError(reason)


def _refuse_irregular(files: Iterable[Path]) -> None:
    """Refuse files whose opening could wait without end: oslo.config opens whatever it is given.

    :raises ConfigError: naming the file
    """
    for path in files:
        if irregular := named_files.why_not_regular(path):
            raise ConfigError(f"{path}: {irregular}: expected a regular file")


def files_of(conf: cfg.ConfigOpts) -> list[Path]:
    """Return the files that oslo.config read, in its order: named files, then ``*.conf`` of the directories."""
    return _with_directories(conf.config_file or [], conf.config_dir or [])


def files_named(args: Sequence[str], default_files: Sequence[str], default_dirs: Sequence[str]) -> list[Path]:
    """Return the files that a command line names, in the same order, for a command line that oslo.config refused."""
    named: dict[str, list[str]] = {"--config-file": [], "--config-dir": []}
    for word, following in zip(args, [*args, ""][1:], strict=True):
        option, equals, value = word.partition("=")
        if option in named:
            named[option].append(value if equals else following)
    return _with_directories(named["--config-file"] or default_files, named["--config-dir"] or default_dirs)


def read(files: Iterable[Path]) -> Assignments:
    """Read the assignments of all files, in their order; an unreadable file assigns nothing.

    :raises iniparser.ParseError: a line that is neither a section nor an assignment
    """
    found: Assignments = {}
    for path in files:
        found |= {(group, option): assignment for group, option, assignment in read_file(path).assignments}
    return found


def read_file(path: Path) -> FileText:
    """Read groups and assignments of one file; an unreadable file has none.

    :raises iniparser.ParseError: a line that is neither a section nor an assignment
    """
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return FileText([], [])
    reader = _Reader(path)
    reader.parse([*text.splitlines(), ""])  # the parser ends an assignment at the line after it
    return reader.found


def bad_value(opts: Iterable[tuple[str, Any]], files: Sequence[Path]) -> str:
    """Return file, option, value and expectation of the first value that its option refuses; empty if there is none.

    :param opts: (group, option)
    """
    try:
        assignments = read(files)
    except iniparser.ParseError:
        return ""
    return next((f"{found.file}: {text}" for found, text in bad_values(opts, assignments)), "")


def bad_values(opts: Iterable[tuple[str, Any]], assignments: Assignments) -> Iterator[tuple[Assignment, str]]:
    """Yield each assignment whose value its option refuses, and what is wrong: option, value and expectation.

    :param opts: (group, option)
    """
    for group, opt in opts:
        found = next((assignments[name] for name in _names(group, opt) if name in assignments), None)
        text = "" if found is None else "\n".join(found.lines)
        if found is None or "$" in text:  # the option that $ refers to is checked by itself
            continue
        try:
            opt.type(text)
        except ValueError as exc:
            shown = "***" if opt.secret else repr(text[:_SHOWN_CHARACTERS])
            yield found, f"[{group}] {opt.dest} = {shown}: expected {_expected(opt.type, exc, opt.secret)}"


def unreadable(files: Iterable[Path]) -> str:
    """Return name and reason of the first file that cannot be read or is no text; empty if there is none."""
    for path in files:
        try:
            if irregular := named_files.why_not_regular(path):
                return f"{path}: {irregular}: expected a regular file"
            path.read_text()
        except UnicodeDecodeError as exc:
            return f"{path}: no text: {exc}"
        except OSError as exc:
            return f"{path}: {exc.strerror}"
    return ""


def bad_line(files: Iterable[Path]) -> str:
    """Return file and number of the first line that is neither a section nor an assignment; empty if there is none.

    The line itself is not shown: it may be a secret whose ``=`` is missing.
    """
    for path in files:
        try:
            read([path])
        except iniparser.ParseError as exc:
            return f"{path}:{exc.lineno}: {exc.msg}: expected [section] or option = value"
    return ""


def bad_reference(option: tuple[str, Any] | None, files: Sequence[Path]) -> str:
    """Return a message about a reference (``$name``) to an option that does not exist; empty if ``option`` is None.

    :param option: (group, option) with the reference
    """
    if option is None:
        return ""
    group, opt = option
    text = f"[{group}] {opt.dest}: expected names of options after $; a $ by itself is written $$"
    found = next((one for name, one in read(files).items() if name in _names(group, opt)), None)
    return text if found is None else f"{found.file}: {text}"


def with_file(conf: cfg.ConfigOpts, text: str) -> str:
    """Return a message about ``[group] option``, preceded by the file that sets the option, if one does."""
    named = _OPTION.search(text)
    if named is None:
        return text
    files = files_of(conf)
    if any(str(path) in text for path in files):
        return text
    try:
        found = read(files).get((group_name(named[1]), named[2]))
    except iniparser.ParseError:
        return text
    return f"{found.file}: {text}" if found is not None else text


def all_options(conf: cfg.ConfigOpts) -> list[tuple[str, Any]]:
    """Return (group, option) of all registered options."""
    infos = conf._all_opt_infos()  # noqa: SLF001 - oslo.config has no public list of them
    return [(group.name if group else "DEFAULT", info["opt"]) for info, group in infos]


def _with_directories(files: Iterable[str], directories: Iterable[str]) -> list[Path]:
    found = [Path(name) for name in files]
    for directory in directories:
        found += sorted(Path(directory).glob("*.conf"))
    return found


def group_name(name: str) -> str:
    """Normalise a group name as oslo.config does: capitals matter in DEFAULT only."""
    return name if name == "DEFAULT" else name.lower()


def _names(group: str, opt: Any) -> Iterator[tuple[str, str]]:
    """Yield all (group, option) under which a file may set an option."""
    yield group_name(group), opt.dest
    for old in opt.deprecated_opts or ():
        yield group_name(old.group or group), (old.name or opt.name).replace("-", "_")


def _expected(kind: Any, exc: ValueError, secret: bool) -> str:
    """Describe the values that a type takes; where there is no description, the error of oslo.config."""
    if isinstance(kind, types.Boolean):
        return "true or false"
    choices = getattr(kind, "choices", None)
    if choices:
        return f"one of {', '.join(map(str, choices))}"
    if isinstance(kind, types.Integer | types.Float):
        return _expected_number(kind)
    if isinstance(kind, types.List):
        return f"a list, separated by commas, each {_expected(kind.item_type, exc, secret)}"
    if isinstance(kind, types.HostAddress):
        return "an IP address or a host name"
    if secret:
        return "another value (not shown)"
    if isinstance(kind, types.Dict):
        reason = str(exc)
        separator = getattr(kind, "key_value_separator", ":")  # oslo.config before 9.4 knows no other
        pairs = f"NAME{separator}VALUE pairs, separated by commas"
        return pairs if reason.startswith("Value should be NAME") else f"{pairs} ({reason})"
    return f"another value: {exc}"


def _expected_number(kind: Any) -> str:
    name = "an integer" if isinstance(kind, types.Integer) else "a number"
    if kind.min is not None and kind.max is not None:
        return f"{name} from {kind.min} to {kind.max}"
    if kind.min is not None:
        return f"{name}, at least {kind.min}"
    return name if kind.max is None else f"{name}, at most {kind.max}"


class _Reader(iniparser.BaseParser):
    """Collects assignments with oslo.config's own parser, so that files are understood in the same way."""

    def __init__(self, path: Path) -> None:
        self._path, self._section = path, ""
        self.found = FileText([], [])

    def new_section(self, section: str) -> None:
        self._section = group_name(section)
        self.found.groups.append((self._section, self.lineno))

    def assignment(self, key: str, value: Any) -> None:
        if not self._section:
            raise self.parse_exc("No section before the first assignment", self.lineno - len(value), "")
        assignment = Assignment(self._path, list(value), self.lineno - len(value))
        self.found.assignments.append((self._section, key.replace("-", "_"), assignment))

    def comment(self, comment: str) -> None:
        pass
