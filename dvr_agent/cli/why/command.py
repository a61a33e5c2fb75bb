"""``dvrctl why``: explains why a floating IP, an address or a router does not work on this host; reads only."""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from dvr_agent.cli import history
from dvr_agent.cli.admin_client import AdminClient
from dvr_agent.cli.inputs import load_config
from dvr_agent.cli.output import BOLD, GREEN, RED, YELLOW, Output
from dvr_agent.cli.why.answer import Answer, answer
from dvr_agent.cli.why.gather.changes import read_changes
from dvr_agent.cli.why.gather.facts import read_facts
from dvr_agent.cli.why.verdicts import Step, Verdict

_NAMESPACE = re.compile(r"((?:qrouter|fip|snat)-[0-9a-f]{8})-[0-9a-f-]{27}")
"""A namespace: its whole name stands in the line that says that it is there."""
_COLOURS = {Verdict.OK: GREEN, Verdict.WRONG: RED, Verdict.UNKNOWN: YELLOW}
Changes = list[dict[str, Any]]
CHANGES = 5
"""Changes that are shown where a fault is named."""
FEW_CHANGES, RECENT = 3, 3600.0
"""Changes that are shown where nothing wrong was found, and their age in seconds at most."""


def run(args: argparse.Namespace, out: Output) -> int:
    """Run ``dvrctl why``.

    :returns: 0: nothing wrong was found; 2: something is wrong
    """
    conf = load_config(args)
    client = AdminClient.of(conf)
    facts = read_facts(conf, args.subject, args.router or "", args.probe, client)
    facts = replace(facts, changes=read_changes(conf, client, facts))
    found = answer(facts)
    changes = chosen_changes(facts.changes, is_explained=found.cause is not None)
    steps = [step for step in found.steps if not (args.only_faults and step.verdict is Verdict.OK)]
    if out.json:
        out.document(as_json(found, steps, changes))
    else:
        _show(out, found, steps, changes)
    return 2 if found.is_wrong else 0


def chosen_changes(changes: Sequence[Mapping[str, Any]], *, is_explained: bool) -> Changes:
    """Return the changes that are shown: the last ones, of the last hour only where nothing wrong was found."""
    if is_explained:
        return [dict(entry) for entry in changes[-CHANGES:]]
    return [dict(entry) for entry in changes[-FEW_CHANGES:] if entry["time"] >= time.time() - RECENT]


def as_json(found: Answer, steps: list[Step], changes: Changes) -> dict[str, Any]:
    """Return the answer as a JSON object.

    :param steps: those that are printed
    :param changes: entries of the history
    """
    return {
        "subject": found.subject,
        "steps": [_step(step) for step in steps],
        "cause": found.cause.key if found.cause is not None else None,
        "sentence": found.sentence,
        "advice": found.advice,
        "changes": changes,
    }


def _step(step: Step) -> dict[str, Any]:
    return {
        "step": step.step,
        "verdict": step.verdict.value,
        "text": step.text,
        "object": step.object,
        "cause": step.cause.key if step.cause is not None else None,
    }


def _show(out: Output, found: Answer, steps: list[Step], changes: Changes) -> None:
    """Print a line for each step, and the sentence at the end, where an operator looks first."""
    width = max((len(step.step) for step in steps), default=0)
    for step in steps:
        out.line(f"{step.verdict.value:<7}  {step.step:<{width}}  {_line(step)}", _COLOURS[step.verdict])
    if steps:
        out.line()
    out.line(found.sentence, BOLD)
    if found.advice:
        out.line(found.advice)
    if changes:
        out.line()
        which = f"{CHANGES} at most" if found.cause is not None else f"of the last hour, {FEW_CHANGES} at most"
        out.line(f"last changes (dvrctl history; {which}):")
    for entry in changes:
        out.line(f"  {history.title(entry)}")


def _line(step: Step) -> str:
    """Return what a step says in one line; the object comes first where there is nothing but its place to say."""
    if not step.object or step.object in step.text:
        return step.text
    if step.verdict is not Verdict.OK:
        return f"{step.text}: {step.object}"
    return f"{step.object}  ({_NAMESPACE.sub(_short, step.text)})"


def _short(match: re.Match[str]) -> str:
    return match[1]
