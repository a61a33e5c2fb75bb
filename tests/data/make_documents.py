"""Makes ``documents/<scenario>-<host>.json`` from recordings of the RPC between neutron-server and its L3 agents.

Usage: ``python tests/data/make_documents.py RECORDINGS`` where RECORDINGS is a folder of scenario files.  A scenario
file is a JSON object with ``scenario`` (its name) and ``calls``, a list of RPC calls ``{"method", "args", "result"}``.
Each host whose ``sync_routers`` call has a router as result gives one document, an envelope::

    {"router": <the router, every key as it came>, "ports_by_subnet": {<subnet id>: <get_ports_by_subnet result>}}

Scenarios with versioned objects (``q…``) go to ``feature_documents``: there the envelope also has the lists
``port_forwardings``, ``qos_policies`` and ``ndp_proxies`` with the data of the objects that ``pull`` and ``bulk_pull``
returned.

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
FEATURE_TARGET = Path(__file__).parent / "feature_documents"
LISTS = {"PortForwarding": "port_forwardings", "QosPolicy": "qos_policies", "NDPProxy": "ndp_proxies"}


def plain(value: Any) -> Any:
    """The data of a versioned object, and of those in it."""
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.get("versioned_object.data", value).items()}
    return [plain(one) for one in value] if isinstance(value, list) else value


def feature_lists(scenario: dict[str, Any]) -> dict[str, list[Any]]:
    """The lists of the envelope, each object once."""
    found: dict[str, dict[str, Any]] = {}
    for call in scenario["calls"]:
        key = LISTS.get(call["args"].get("resource_type", ""))
        if key and call["method"] in ("pull", "bulk_pull") and call["result"]:
            objects = call["result"] if isinstance(call["result"], list) else [call["result"]]
            found.setdefault(key, {}).update({one["id"]: one for one in map(plain, objects)})
    return {key: [objects[one] for one in sorted(objects)] for key, objects in found.items()}


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
        found[call["args"]["host"]] = {"router": router, "ports_by_subnet": ports, **feature_lists(scenario)}
    return found


def main(recordings: Path) -> None:
    """Write the documents of every scenario in ``recordings``."""
    TARGET.mkdir(exist_ok=True)
    FEATURE_TARGET.mkdir(exist_ok=True)
    for path in sorted(recordings.glob("*.json")):
        scenario = json.loads(path.read_text())
        if not isinstance(scenario, dict) or "scenario" not in scenario or "calls" not in scenario:
            continue
        target = FEATURE_TARGET if path.stem.startswith("q") else TARGET
        for host, document in documents(scenario).items():
            text = json.dumps(document, sort_keys=True, separators=(",", ":"))
            (target / f"{path.stem}-{host}.json").write_text(text + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
