"""``dvrctl check``: are these router documents acceptable?  Reads files only, no kernel."""

from __future__ import annotations

import argparse

from dvr_agent.cli.inputs import Result, load_config, read_files
from dvr_agent.cli.output import GREEN, RED, Output
from dvr_agent.model.router import Router


def run(args: argparse.Namespace, out: Output) -> int:
    """0: all are fine; 1: at least one is bad."""
    conf = load_config(args)
    found = read_files(args.files, conf.dvr_agent.max_document_size)
    if out.json:
        documents = [_as_json(result) for result in found.results]
        out.document({"documents": documents, "good": len(found.good), "bad": len(found.bad)})
    else:
        for result in found.results:
            _show(out, result)
    return 1 if found.bad else 0


def _as_json(result: Result) -> dict[str, object]:
    path, router, error = result
    return {
        "file": path,
        "ok": error is None,
        "router": router.id if router else None,
        "name": router.name if router else None,
        "note": note(router) if router else "",
        "error": None
        if error is None
        else {"path": error.path, "value": error.value, "expected": error.expected, "text": str(error)},
    }


def _show(out: Output, result: Result) -> None:
    path, router, error = result
    if error is not None:
        out.line(f"bad  {error}", RED)
    elif router is not None:
        what = f"router {router.id}" + (f" ({router.name})" if router.name else "")
        out.line(f"ok   {path}: {what}" + (f"; {note(router)}" if note(router) else ""), GREEN)


def note(router: Router) -> str:
    """What is special about a good document, empty if nothing is."""
    if router.ha or not router.distributed:
        return f"{'HA' if router.ha else 'not distributed'}: not supported here, left alone"
    return "" if router.admin_state_up else "administratively down: not built"
