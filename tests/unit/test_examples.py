"""The examples that README and demo use are those that the demo makes, and they are good."""

from __future__ import annotations

import json
from pathlib import Path

from dvr_agent.cli.demo import documents
from dvr_agent.desired.build import desired_router
from dvr_agent.desired.host_allocations import HostAllocations
from dvr_agent.desired.host_settings import AgentMode, HostSettings
from dvr_agent.desired.host_view import make_view
from dvr_agent.desired.rivals import find_rivals
from dvr_agent.extensions import Extension
from dvr_agent.model.parse import parse_document
from dvr_agent.state.translations import rules_of

EXAMPLES = Path(__file__).parent.parent.parent / "etc" / "examples"


def test_the_example_is_the_demos_router() -> None:
    assert json.loads((EXAMPLES / "demo.json").read_text()) == documents.document()


def test_the_legacy_example_is_one_namespace_and_does_not_collide_with_the_demos_router() -> None:
    demo, legacy = (parse_document((EXAMPLES / name).read_bytes(), name) for name in ("demo.json", "legacy.json"))
    view = make_view(legacy, HostSettings(documents.HOST, AgentMode.DVR_SNAT))
    state = desired_router(view, HostAllocations())
    assert (state.base, state.slice, state.snat, state.omitted, state.warnings) == (None, None, None, (), ())
    assert len(view.central_fips) == 2
    assert find_rivals([("demo", demo), ("legacy", legacy)]) == {}


def test_the_changed_example_is_the_same_router_later() -> None:
    before, after = (
        parse_document((EXAMPLES / name).read_bytes(), name) for name in ("demo.json", "demo-changed.json")
    )
    assert before.id == after.id
    assert after.routes
    assert before.floating_ips[0].fixed_address != after.floating_ips[0].fixed_address
    assert len(before.ports_by_subnet) == 2


def test_the_example_of_features_is_good_and_built() -> None:
    router = parse_document((EXAMPLES / "features.json").read_bytes(), "features.json")
    found = router.features
    assert router.omitted == ()
    assert found.port_forwardings
    assert found.qos_policy(found.gateway_qos_policy_id)
    assert found.conntrack_helpers
    settings = HostSettings("demo", AgentMode.DVR_SNAT, extensions=frozenset(Extension))
    state = desired_router(make_view(router, settings), HostAllocations())
    assert state.omitted == ()
    assert state.snat is not None
    assert sum("--to-destination 10.10.1.12" in rule.text for rule in rules_of(state.snat.tables)) == 3
