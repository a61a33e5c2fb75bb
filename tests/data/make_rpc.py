"""Makes ``rpc/*.json`` from recordings of what neutron-server and its L3 agents said to each other.

Usage: ``python tests/data/make_rpc.py RECORDINGS``; RECORDINGS as for ``make_documents``, and with the same scenarios.

``startup.json``
    The calls of an agent at its start and some more: topic, version, method, argument names and values, result.  Router
    documents in results are left out: they are in ``documents``.
``calls.json``
    Scenario → calls that the documents do not hold the answers of: method, arguments, result.
``casts.json``
    What the server said by itself, API action by API action, to several agents.  ``expects_reply`` is right only in the
    second recording; it is true for ``router_added_to_agent`` alone.  Messages for extensions (topics
    ``neutron-vo-…``), to which an agent without extensions does not listen, are left out.

Keys are sorted and the text is compact, so that the same recordings give the same bytes.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

TARGET = Path(__file__).parent / "rpc"
IN_DOCUMENTS = ("sync_routers", "get_ports_by_subnet")
ANSWERED = "router_added_to_agent"


def startup(recordings: Path) -> list[dict[str, Any]]:
    """Calls in the order of the recording."""
    found = []
    for call in json.loads((recordings / "startup_calls.json").read_text())["calls"]:
        result = [] if call["method"] == "sync_routers" else call["result"]
        found.append({**call, "result": result})
    return found


def calls(recordings: Path) -> dict[str, list[dict[str, Any]]]:
    """By scenario."""
    found = {}
    for path in sorted(recordings.glob("*.json")):
        scenario = json.loads(path.read_text())
        if not isinstance(scenario, dict) or "scenario" not in scenario or "calls" not in scenario:
            continue
        found[path.stem] = [
            {"method": call["method"], "args": call["args"], "result": call["result"]}
            for call in scenario["calls"]
            if call["method"] not in IN_DOCUMENTS
        ]
    return found


def casts(recordings: Path) -> list[dict[str, Any]]:
    """Steps of both recordings, one after the other, each with its messages in the order in which they came."""
    found = []
    for name in ("casts", "casts_extra"):
        recording = json.loads((recordings / f"{name}.json").read_text())
        for step in recording["steps"]:
            messages = step.get("messages", []) + (step.get("messages_after_agents_acted") or [])
            found.append(
                {
                    "recording": name,
                    "step": step["step"],
                    "messages": [message(one) for one in messages if not one["topic"].startswith("neutron-vo-")],
                }
            )
    return found


def message(recorded: dict[str, Any]) -> dict[str, Any]:
    """One message; the time is left out."""
    kept = {key: recorded[key] for key in ("host", "topic", "method", "namespace", "version", "args")}
    return {**kept, "expects_reply": recorded["method"] == ANSWERED}


def main(recordings: Path) -> None:
    """Write all files."""
    TARGET.mkdir(exist_ok=True)
    for name, content in (
        ("startup", startup(recordings)),
        ("calls", calls(recordings)),
        ("casts", casts(recordings)),
    ):
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        (TARGET / f"{name}.json").write_text(text + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
