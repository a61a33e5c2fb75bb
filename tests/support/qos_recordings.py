"""What the recorded ``tc filter add … police`` commands of neutron-l3-agent limit at the end of each scenario.

Of ``tc_commands`` in the recordings q5, without those for distributed floating IPs on ``qg-`` and central ones on
``rfp-``, where their packets never pass.  The recorded agent also kept the rule of a policy that was taken off in the
middle of a race; here is what the documents of the scenario ask for.
"""

from __future__ import annotations

from dvr_agent.state.limit import Limit, make_limit
from dvr_agent.state.namespace import NamespaceState

_LEGACY, _LEGACY_FIP, _LEGACY_GATEWAY = "qg-6469e3a3-e5", "203.0.113.35", "203.0.113.79"
QG, RFP = "qg-715f236b-dd", "rfp-a01acca2-c"
_CENTRAL, _GATEWAY, _ONE, _TWO, _THREE = (f"203.0.113.{last}" for last in (196, 34, 240, 68, 121))

RECORDED: dict[tuple[str, str], set[Limit]] = {
    ("q5_qos", "compute1"): {
        make_limit(RFP, "entering", _ONE, 2000, 1600),
        make_limit(RFP, "leaving", _ONE, 1000, 800),
        make_limit(QG, "entering", _CENTRAL, 2000, 1600),
        make_limit(QG, "leaving", _CENTRAL, 1000, 800),
        make_limit(QG, "entering", _GATEWAY, 20000, 2000),
        make_limit(QG, "leaving", _GATEWAY, 10000, 1000),
    },
    ("q5_qos", "compute2"): {
        make_limit(RFP, "entering", _TWO, 2000, 1600),
        make_limit(RFP, "leaving", _TWO, 1000, 800),
        make_limit(RFP, "entering", _THREE, 5000, 4000),
    },
    ("q5_qos_changed", "compute1"): {
        make_limit(QG, "leaving", _CENTRAL, 3000, 2400),
        make_limit(QG, "entering", _GATEWAY, 20000, 2000),
        make_limit(QG, "leaving", _GATEWAY, 12000, 1200),
    },
    ("q5_qos_changed", "compute2"): {
        make_limit(RFP, "leaving", _TWO, 3000, 2400),
        make_limit(RFP, "leaving", _THREE, 3000, 2400),
    },
    ("q5_qos_removed", "compute1"): set(),
    ("q5_qos_legacy", "compute1"): {
        make_limit(_LEGACY, "entering", _LEGACY_FIP, 2500, 2000),
        make_limit(_LEGACY, "leaving", _LEGACY_FIP, 1500, 1200),
        make_limit(_LEGACY, "entering", _LEGACY_GATEWAY, 2500, 2000),
        make_limit(_LEGACY, "leaving", _LEGACY_GATEWAY, 1500, 1200),
    },
    ("q5_qos_removed", "compute2"): {
        make_limit(RFP, "leaving", _TWO, 3000, 2400),
        make_limit(RFP, "leaving", _THREE, 3000, 2400),
    },
}
"""(Scenario, host) → the limits."""


def limits_of(*states: NamespaceState | None) -> set[Limit]:
    """Return the limits in the namespaces of a router."""
    return {limit for state in states if state is not None for limit in state.limits}
