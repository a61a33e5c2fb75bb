"""Router documents recorded from neutron-server (``tests/data/documents``): as text, as JSON, and parsed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dvr_agent.desired.host_settings import AgentMode
from dvr_agent.model.parse import parse_document
from dvr_agent.model.router import Router

DATA = Path(__file__).parent.parent / "data"
DOCUMENTS = DATA / "documents"
MODES = {"compute1": AgentMode.DVR_SNAT, "compute2": AgentMode.DVR, "compute3": AgentMode.DVR_NO_EXTERNAL}
"""Agent mode of each recorded host, the same in all scenarios."""
RECORDED = {path.stem: path.read_bytes() for path in sorted(DOCUMENTS.glob("*.json"))}
"""``<scenario>-<host>`` → the document as it was recorded."""


def document(name: str) -> dict[str, Any]:
    """Return a fresh copy of a recorded document, for a test to change."""
    loaded: dict[str, Any] = json.loads(RECORDED[name])
    return loaded


def parse(value: Any) -> Router:
    """Parse a document given as JSON value."""
    return parse_document(json.dumps(value).encode(), "test.json")


def load(scenario: str, host: str) -> Router:
    """Parse the document of a scenario that was recorded for a host."""
    return parse_document(RECORDED[f"{scenario}-{host}"], scenario)


def load_features(scenario: str, host: str) -> Router:
    """Parse the document of a scenario with objects of L3 agent extensions (``tests/data/feature_documents``)."""
    return parse(feature_document(scenario, host))


def feature_document(scenario: str, host: str) -> dict[str, Any]:
    """Return a fresh copy of such a document, for a test to change."""
    loaded: dict[str, Any] = json.loads((DATA / "feature_documents" / f"{scenario}-{host}.json").read_bytes())
    return loaded
