"""Makes ``documents/<scenario>-<host>.json`` from recordings of the RPC between neutron-server and its L3 agents.

Usage: ``python tests/data/make_documents.py RECORDINGS`` where RECORDINGS is a folder of scenario files.  A scenario
file is a JSON object with ``scenario`` (its name) and ``calls``, a list of RPC calls ``{"method", "args", "result"}``.
Each host whose ``sync_routers`` call has a router as result gives one document, an envelope::

    {"router": <the router, every key as it came>, "ports_by_subnet": {<subnet id>: <get_ports_by_subnet result>}}

The recorder asked ``get_ports_by_subnet`` for one host only; the server's answer does not depend on the host
(``neutron.api.rpc.handlers.l3_rpc``), so every host's document gets it.  Keys are sorted and the text is compact, so
that the same recordings give the same bytes.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

TARGET = Path(__file__).parent / "documents"


def documents(scenario: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The envelope documents of one scenario by host."""
    calls = scenario["calls"]
    ports = {
        call["args"]["subnet_id"]: call["result"]
        for call in calls
        if call["method"] == "get_ports_by_subnet" and isinstance(call["result"], list)
    }
    found = {}
    for call in calls:
        if call["method"] != "sync_routers" or not call["result"]:
            continue
        (router,) = call["result"]
        found[call["args"]["host"]] = {"router": router, "ports_by_subnet": ports}
    return found


def main(recordings: Path) -> None:
    """Write the documents of every scenario in ``recordings``."""
    TARGET.mkdir(exist_ok=True)
    for path in sorted(recordings.glob("*.json")):
        scenario = json.loads(path.read_text())
        if not isinstance(scenario, dict) or "scenario" not in scenario or "calls" not in scenario:
            continue
        for host, document in documents(scenario).items():
            text = json.dumps(document, sort_keys=True, separators=(",", ":"))
            (TARGET / f"{path.stem}-{host}.json").write_text(text + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
