"""The examples that README and demo use are those that the demo makes, and they are good."""

from __future__ import annotations

import json
from pathlib import Path

from dvr_agent.cli.demo import documents
from dvr_agent.model.parse import parse_document

EXAMPLES = Path(__file__).parent.parent.parent / "etc" / "examples"


def test_the_example_is_the_demos_router() -> None:
    assert json.loads((EXAMPLES / "demo.json").read_text()) == documents.document()


def test_the_changed_example_is_the_same_router_later() -> None:
    before, after = (
        parse_document((EXAMPLES / name).read_bytes(), name) for name in ("demo.json", "demo-changed.json")
    )
    assert before.id == after.id
    assert after.routes
    assert before.floating_ips[0].fixed_address != after.floating_ips[0].fixed_address
    assert len(before.ports_by_subnet) == 2
