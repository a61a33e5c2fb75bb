"""Metrics of parts that the scripted daemon does not have: neutron-server, the bus, services, floating IPs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import generate_latest

from dvr_agent.daemon.buckets import Buckets
from dvr_agent.daemon.failure_reasons import REASONS, reason_of
from dvr_agent.daemon.floating_ip_counts import FloatingIpCounts
from dvr_agent.daemon.job_result import JobResult, RouterState
from dvr_agent.daemon.metrics import collector
from dvr_agent.daemon.metrics.definitions import METRICS, OBJECTS
from dvr_agent.daemon.metrics.families import Families
from dvr_agent.daemon.metrics.traffic_text import traffic_text
from dvr_agent.daemon.router_records import RouterRecords
from dvr_agent.desired.host_settings import AgentMode, HostSettings
from dvr_agent.errors import (
    AllocationError,
    AttachError,
    ConfigError,
    DvrError,
    KernelError,
    NamespaceGoneError,
    ServiceError,
    TablesLockedError,
    TablesUnavailableError,
)
from dvr_agent.reconcile.api import Plan, RefusedError, Result, Traffic
from dvr_agent.sources.api import DataPlane, JobReport
from dvr_agent.sources.neutron.crossing.server_status import ServerStatus
from dvr_agent.sources.neutron.wire.rpc_client import CallTimes
from dvr_agent.state.namespace import KIND_OF
from tests.support.prometheus import samples, value
from tests.support.recorded_documents import load


def text_of(families: Families) -> bytes:
    text: bytes = generate_latest(SimpleNamespace(collect=lambda: families))
    return text


def neutron_status() -> dict[str, Any]:
    server, times = ServerStatus(), CallTimes()
    server.full_sync_done(2.5, {"at": 1000.0, "seconds": 2.5})
    server.full_sync_done(1.5, {"at": 2000.0, "seconds": 1.5})
    server.publish(last_report=3000.0, statuses_not_sent=4)
    for seconds in (0.25, 0.75):
        times.add(seconds)
    calls = {"made": 3, "failed": 1, "failures": {"sync_routers": 1}, "seconds": {"sync_routers": times.status()}}
    none: dict[str, Any] = {"made": 0, "failed": 0, "failures": {}, "seconds": {}}
    bus = {"connected": True, "notifications": 9, "reconnects": 2, "calls": calls, "objects": none, "reports": none}
    return {"source": "neutron", "server": server.values(), "bus": bus}


def test_neutron_server_and_bus() -> None:
    families = Families()
    collector._source(families, neutron_status())
    text = text_of(families)
    assert {name for name, _ in samples(text)} == {
        series for metric in METRICS.values() if metric.of == "neutron" for series in metric.series
    }
    assert value(text, "dvr_agent_full_sync_seconds_count") == 2
    assert value(text, "dvr_agent_full_sync_seconds_sum") == 4
    assert value(text, "dvr_agent_last_full_sync_timestamp_seconds") == 2000
    assert value(text, "dvr_agent_rpc_seconds_count", method="sync_routers") == 2
    assert value(text, "dvr_agent_rpc_seconds_sum", method="sync_routers") == 1
    assert value(text, "dvr_agent_rpc_failures_total", method="sync_routers") == 1
    assert value(text, "dvr_agent_server_up") == 1
    assert value(text, "dvr_agent_statuses_not_sent") == 4


def test_another_source_has_none_of_these() -> None:
    families = Families()
    collector._source(families, {"source": "directory"})
    assert text_of(families) == b""


def test_services() -> None:
    families = Families()
    statuses = {
        "metadata": {"routers": 7, "trouble": ""},
        "radvd": {"routers": 3, "died": 5, "waiting": ["a", "b"]},
        "keepalived": {"routers": 0, "died": 0, "waiting": []},
    }
    collector._services(families, statuses)
    text = text_of(families)
    assert value(text, "dvr_agent_service_routers", service="metadata") == 7
    assert value(text, "dvr_agent_service_restarts_total", service="radvd") == 5
    assert value(text, "dvr_agent_service_waiting", service="radvd") == 2
    assert value(text, "dvr_agent_service_restarts_total", service="metadata") is None


def test_routers_by_state_and_vrrp() -> None:
    records = RouterRecords()
    for router_id, state, is_master in (
        ("a", RouterState.IN_SYNC, True),
        ("b", RouterState.IN_SYNC, False),
        ("c", RouterState.DEGRADED, None),
    ):
        reconciled = Result(Plan(router_id), 0.0, is_master=is_master)
        records.job_ended(router_id, JobResult(state))
        records.job_done(router_id, reconciled)
    counts = FloatingIpCounts(HostSettings("compute1", AgentMode.DVR_SNAT))
    status = SimpleNamespace(schedule=SimpleNamespace(records=records), counters=SimpleNamespace(floating_ips=counts))
    families = Families()
    collector.Collector(status, SimpleNamespace())._routers(families)  # type: ignore[arg-type]
    text = text_of(families)
    assert value(text, "dvr_agent_routers", state="in_sync") == 2
    assert value(text, "dvr_agent_routers", state="degraded") == 1
    assert value(text, "dvr_agent_vrrp_routers", state="master") == 1
    assert value(text, "dvr_agent_vrrp_routers", state="backup") == 1
    assert value(text, "dvr_agent_vrrp_master", router_id="a") == 1
    assert value(text, "dvr_agent_vrrp_master", router_id="b") == 0
    assert value(text, "dvr_agent_vrrp_master", router_id="c") is None


def test_every_kind_of_object_that_a_plan_counts_is_a_label() -> None:
    kinds = {
        "namespace",
        "table",
        "nft table",
        "legacy table",
        "port",
        "service",
        *(kind.name for kind in KIND_OF.values()),
    }
    assert {kind.replace(" ", "_") for kind in kinds} == set(OBJECTS)


def test_a_metric_that_is_not_defined_cannot_be_made() -> None:
    with pytest.raises(KeyError):
        Families().gauge("nonsense", 1)
    with pytest.raises(AssertionError, match="is a counter"):
        Families().gauge("failures_total", 1)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (KernelError("ns", "route", 22), "kernel"),
        (KernelError("ns", "route", 12), "shortage"),
        (NamespaceGoneError("ns", "namespace", 2), "namespace_gone"),
        (AttachError("", "port", 5), "attach"),
        (TablesLockedError("", "lock", 11), "tables_locked"),
        (TablesUnavailableError("", "table", 2), "tables_unavailable"),
        (ServiceError("x"), "service"),
        (AllocationError("x"), "allocation"),
        (ConfigError("x"), "other"),
        (DvrError("x"), "other"),
        (RefusedError([AttachError("", "port", 5), KernelError("", "x", 1)], (), Result(Plan("x"), 0.0)), "attach"),
    ],
)
def test_failures_have_one_of_few_reasons(error: DvrError, reason: str) -> None:
    assert reason_of(error) == reason
    assert reason in REASONS


def test_buckets_count_a_value_in_the_first_that_it_fits_into() -> None:
    buckets = Buckets((0.1, 1.0))
    for seconds in (0.05, 0.1, 0.5, 3.0):
        buckets.add(seconds)
    assert buckets.cumulative() == [(0.1, 2), (1.0, 3), (float("inf"), 4)]
    assert (buckets.number, buckets.sum) == (4, 3.65)


def test_floating_ips_follow_the_reports_of_jobs() -> None:
    router = load("b2_dvr_snat_node_with_vms", "compute1")
    (fip,) = (one for one in router.floating_ips if one.host == "compute1")
    counts = FloatingIpCounts(HostSettings("compute1", AgentMode.DVR_SNAT))

    def after(data_plane: DataPlane, **more: Any) -> dict[str, int]:
        counts.job_ended(JobReport(router.id, data_plane, router, **more))
        return {status: number for status, number in counts.numbers.items() if number}

    assert after(DataPlane.FAILED) == {"error": 1}
    assert after(DataPlane.IN_PLACE) == {"active": 1}
    assert after(DataPlane.FAILED) == {"active": 1}, "it still works"
    assert after(DataPlane.IN_PLACE, held=frozenset({str(fip.address)})) == {"error": 1}
    assert after(DataPlane.IN_PLACE, left_out=frozenset({fip.id})) == {"error": 1}
    assert after(DataPlane.ABSENT) == {"down": 1}
    assert after(DataPlane.IN_PLACE) == {"active": 1}
    counts.keep_only({router.id})
    assert counts.numbers["active"] == 1
    counts.keep_only(set())
    assert counts.numbers["active"] == 0
    assert after(DataPlane.LEFT_ALONE) == {}


def test_ten_thousand_floating_ips_are_text_once_each() -> None:
    found = [
        Traffic(f"r{number}", f"10.{number >> 8}.{number & 255}.1", number, 2 * number) for number in range(10_000)
    ]
    text = traffic_text([*found, found[0]])
    assert len(samples(text)) == 20_000
    assert value(text, "dvr_agent_floating_ip_transmit_bytes_total", floating_ip="10.0.7.1", router_id="r7") == 14
