"""``dvrctl check``: validates router documents.  It reads files only, no kernel.

``dvrctl check --config``, which checks the configuration, is in ``check_config``.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from dvr_agent.cli import check_config
from dvr_agent.cli.inputs import FileResult, load_config, read_files
from dvr_agent.cli.output import GREEN, RED, YELLOW, Output, UsageError
from dvr_agent.cli.render import omitted_text
from dvr_agent.desired.rivals import Rivals, find_rivals
from dvr_agent.model.router import Omission, Router


def run(args: argparse.Namespace, out: Output) -> int:
    """Run ``dvrctl check``.

    :returns: 0: all documents are good; 1: at least one is bad, has objects that are left out, or claims what another
        one claims
    """
    if args.check_config:
        return check_config.run(args, out)
    if not args.files:
        raise UsageError(
            "check: FILE is missing: dvrctl check /etc/dvr-agent/routers/*.json for documents, dvrctl check --config "
            "for the configuration; if something does not work: dvrctl why ADDRESS, dvrctl status"
        )
    conf = load_config(args, required=False)
    found = read_files(args.files, conf.dvr_agent.max_document_size)
    rivals = find_rivals(found.good)
    if out.json:
        documents = [_as_json(result, rivals.get(result.path, ())) for result in found.results]
        out.document({"documents": documents, "good": len(found.good), "bad": len(found.bad)})
    else:
        for result in found.results:
            _show(out, result, rivals.get(result.path, ()))
    return 1 if found.bad or rivals or any(router.omitted for _, router in found.good) else 0


def _as_json(result: FileResult, rivals: Sequence[Rivals]) -> dict[str, object]:
    path, router, error = result
    return {
        "file": path,
        "ok": error is None,
        "router": router.id if router else None,
        "name": router.name if router else None,
        "note": note(router) if router else "",
        "omitted": [_omission_json(omission) for omission in router.omitted] if router else [],
        "claimed_twice": [{**_omission_json(one.omission), "other": one.other} for one in rivals],
        "warnings": [f"no neighbour: {omission.text}" for omission in router.skipped] if router else [],
        "error": None
        if error is None
        else {"path": error.path, "value": error.value, "expected": error.expected, "text": str(error)},
    }


def _show(out: Output, result: FileResult, rivals: Sequence[Rivals]) -> None:
    path, router, error = result
    if error is not None:
        out.line(f"bad  {error}", RED)
    elif router is not None:
        title = f"router {router.id}" + (f" ({router.name})" if router.name else "")
        verdict, colour = ("part", YELLOW) if router.omitted or rivals else ("ok  ", GREEN)
        out.line(f"{verdict} {path}: {title}" + (f"; {note(router)}" if note(router) else ""), colour)
        for omission in router.omitted:
            out.line(f"     left out: {omission.text}", RED)
        for one in rivals:
            out.line(f"     claimed twice: {one.omission.text}", RED)
        for omission in router.skipped:
            out.line(f"     warning: no neighbour: {omission.text}")


def _omission_json(omission: Omission) -> dict[str, str]:
    return {
        "path": omission.path,
        "value": omission.value,
        "expected": omission.expected,
        "text": omission.text,
    }


def note(router: Router) -> str:
    """Return why a good document is not built, or not in full; empty if it is."""
    if not router.admin_state_up:
        return "administratively down: not built"
    return omitted_text(len(router.omitted)) if router.omitted else ""
