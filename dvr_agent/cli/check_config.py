"""``dvrctl check --config``: prints what ``dvr_agent.config_check`` finds in the configuration."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from dvr_agent import config, config_files
from dvr_agent.cli.output import GREEN, RED, YELLOW, Output
from dvr_agent.cli.web.listener import configured_address
from dvr_agent.config_check import Finding, check
from dvr_agent.plural import count


def run(args: argparse.Namespace, out: Output) -> int:
    """Run ``dvrctl check --config``.

    :returns: 0: no error, perhaps notes; 1: there are errors
    """
    arguments = [word for path in args.files for word in ("--config-file", path)] or list(args.config)
    files, directories = ([], []) if arguments else config.default_files()
    named = config_files.files_named(arguments, files, directories)
    if not arguments:
        arguments = [word for path in named for word in ("--config-file", str(path))]
    found = check(arguments, named, [configured_address])
    if out.json:
        out.document(_as_json(named, found))
    else:
        _show(out, named, found)
    return 1 if any(one.kind.is_error for one in found) else 0


def _as_json(files: Sequence[Path], found: Sequence[Finding]) -> dict[str, object]:
    return {
        "files": [str(path) for path in files],
        "findings": [
            {
                "kind": str(one.kind),
                "error": one.kind.is_error,
                "file": one.file or None,
                "line": one.line or None,
                "text": one.text,
                "did_you_mean": one.meant or None,
            }
            for one in found
        ],
        "errors": sum(one.kind.is_error for one in found),
        "notes": sum(not one.kind.is_error for one in found),
    }


def _show(out: Output, files: Sequence[Path], found: Sequence[Finding]) -> None:
    for one in found:
        out.line(f"{'bad ' if one.kind.is_error else 'note'} {one}", RED if one.kind.is_error else YELLOW)
    for path in files:
        if not any(one.file == str(path) for one in found):
            out.line(f"ok   {path}", GREEN)
    if not files:
        out.line("no configuration file: all options have their defaults")
    errors = sum(one.kind.is_error for one in found)
    out.line(f"{count(len(files), 'file')}: {count(errors, 'error')}, {count(len(found) - errors, 'note')}")
