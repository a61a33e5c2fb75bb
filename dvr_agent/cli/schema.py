"""``dvrctl schema``: prints the JSON Schema of a verb's JSON output (``dvr_agent.cli.schemas``)."""

from __future__ import annotations

import argparse

from dvr_agent.cli import schemas
from dvr_agent.cli.output import Output, UsageError


def run(args: argparse.Namespace, out: Output) -> int:
    """Run ``dvrctl schema``: print one schema, as JSON in both formats, or the names of all; returns 0.

    :raises UsageError: there is none of this name
    """
    if args.name:
        wanted = schemas.file_name(" ".join(args.name))
        found = [name for name in schemas.SCHEMAS if schemas.file_name(name) == wanted]
        if not found:
            raise UsageError(f"schema: there is none of {' '.join(args.name)!r} (dvrctl schema lists all)")
        out.document(schemas.schema(found[0]))
    elif out.json:
        out.document({"schemas": {name: title for name, (title, _) in schemas.SCHEMAS.items()}})
    else:
        out.table(("SCHEMA", "OF"), [(name, title) for name, (title, _) in schemas.SCHEMAS.items()])
    return 0
