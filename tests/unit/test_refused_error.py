"""How refused objects are told: briefly in the log, completely in the status, and to the source by address."""

from __future__ import annotations

import errno
import logging
import time

import pytest

from dvr_agent.daemon.job_result import RouterState
from dvr_agent.daemon.jobs import UpdateRouter, report_of, run
from dvr_agent.daemon.schedule import Schedule
from dvr_agent.errors import KernelError
from dvr_agent.model.router import Router
from dvr_agent.reconcile.api import Plan, RefusedError, Result
from dvr_agent.settings import RetryPolicy
from dvr_agent.sources.api import DataPlane, Document
from tests.support.log_lines import doubled
from tests.support.recorded_documents import load

ERRORS = [KernelError("qrouter-x", f"route 172.16.{n}.0/24 via 10.0.0.255 dev qr-x", errno.EINVAL) for n in range(5)]


class Refusing:
    """Only the part of a reconciler, and of its planner, that an update uses."""

    @property
    def planner(self) -> Refusing:
        return self

    def has_left(self, router: Router) -> bool:
        return False

    def reconcile(self, router: Router, in_resync: bool = False, document: str = "", trusting: bool = True) -> Result:
        raise RefusedError(ERRORS, {"203.0.113.183"}, Result(Plan(f"router {router.id}"), 0.0))


def test_the_log_names_three_and_the_status_all(caplog: pytest.LogCaptureFixture) -> None:
    work = UpdateRouter(Document("r.json", load("b2_dvr_snat_node_with_vms", "compute1"), b""))
    schedule = Schedule(RetryPolicy(100, 300))
    schedule.document_changed(work.document, time.monotonic())
    job = schedule.take()
    assert job is not None
    with caplog.at_level(logging.ERROR):
        _late, result = run(job, Refusing())  # type: ignore[arg-type]
        schedule.job_ended(job, result)
    (line,) = [record.getMessage() for record in caplog.records]
    assert "failed: namespace qrouter-x: route 172.16.0.0/24 via 10.0.0.255 dev qr-x, route 172.16.1.0/24 " in line
    assert ": EINVAL (Invalid argument); and 2 more; retrying in " in line
    assert "172.16.3.0/24" not in line
    assert result.state is RouterState.DEGRADED
    assert result.retry
    assert all(error.what in result.reason for error in ERRORS)
    assert doubled(result.reason) == doubled(line) == []
    report = report_of(work, result)
    assert (report.data_plane, report.held) == (DataPlane.IN_PLACE, {"203.0.113.183"})
