"""The recorded router with bandwidth limits (scenario q5) on the real kernel, and an agent that builds it."""

from __future__ import annotations

from pathlib import Path

from dvr_agent.desired.host_settings import HostSettings
from dvr_agent.extensions import Extension
from dvr_agent.reconcile.factory import make_reconciler
from dvr_agent.reconcile.reconciler import RouterReconciler
from tests.support import lab
from tests.support.recorded_documents import MODES, load_features

ROUTER = "a01acca2-c3a8-4c19-8739-368a62da985b"
QROUTER, SNAT = f"qrouter-{ROUTER}", f"snat-{ROUTER}"
_SERVED = frozenset({Extension.FIP_QOS, Extension.GATEWAY_IP_QOS})


def start(host: lab.Host, state_path: Path) -> RouterReconciler:
    """Start an agent of the host compute1."""
    network = load_features("q5_qos", "compute1").gateway
    assert network is not None
    settings = HostSettings("compute1", MODES["compute1"], extensions=_SERVED)
    made = make_reconciler(settings, {network.network_id: host.bridge("br-ext")}, state_path)
    made.load()
    return made
