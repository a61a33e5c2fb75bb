"""Holds JSON outputs of dvrctl, and answers of the admin socket, to their published schemas.

Strictly: a key that the schema does not list is an error here, while readers of the output have to expect new ones.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator

from dvr_agent.cli import ctl, schemas


def hold_output(words: Sequence[object], printed: str) -> None:
    """Assert that what dvrctl has printed is as its schema says, if these words ask for JSON.

    :param words: the command line, without the name of the program
    """
    args = ctl.make_parser().parse_args(list(map(str, words)))
    if args.output != "json" or args.verb == "schema":
        return
    name = f"{args.verb} {args.thing}" if args.verb == "show" else args.verb
    name = f"{name} --config" if getattr(args, "check_config", False) else name
    name = f"{name} --watch" if getattr(args, "watch", None) else name
    for value in _documents(printed):
        hold(name, value)


def hold(name: str, value: Any) -> None:
    """Assert that a value is as a schema says."""
    errors = sorted(_validator(name).iter_errors(value), key=lambda error: list(map(str, error.absolute_path)))
    told = [f"{error.json_path}: {error.message[:300]}" for error in errors[:5]]
    assert not told, f"JSON of {name} is not as dvr_agent/cli/schemas says: {told}"


@cache
def _validator(name: str) -> Draft202012Validator:
    return Draft202012Validator(strict(schemas.schema(name)))


def strict(schema: Any) -> Any:
    """Return a schema that allows no keys that it does not list, but in objects that say so."""
    if isinstance(schema, list):
        return [strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: strict(value) for key, value in schema.items()}
    if found.get("type") in ("object", ["object", "null"]):
        found.setdefault("additionalProperties", False)
    return found


def _documents(printed: str) -> list[Any]:
    """Return the documents of an output: one, or one for each line, or none."""
    if not printed.strip():
        return []
    try:
        return [json.loads(printed)]
    except ValueError:
        return [json.loads(line) for line in printed.splitlines()]
