"""The resources of the admin socket.

========================  ====================================================================================
``GET /status``           everything, see :meth:`dvr_agent.daemon.status.DaemonStatus.to_json`
``GET /routers/<id>``     one router of it, with the statuses of its floating IPs here and at the server
``POST /routers/<id>``    fetch its document again and queue it at once; answers 202 with the router
``GET /history``          what was changed, and when, see ``history_resource``
``POST /sync``            rescan, then resync of every router; answers 202 with the number of routers
``GET /metrics``          all metrics in Prometheus' text format (``metrics``)
``GET /healthz``          200 while there is progress, else 503; with the checks (``health``)
``GET /readyz``           200 if healthy, documents can be listed, and the first resync is over; else 503
========================  ====================================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dvr_agent.daemon import history_resource
from dvr_agent.daemon.health import Check, Health
from dvr_agent.daemon.http_resources import Answer, Request, Resource, ResourceTable
from dvr_agent.daemon.metrics.exposition import Exposition
from dvr_agent.daemon.status import DaemonStatus
from dvr_agent.history.writer import HistoryWriter


def make_table(
    status: DaemonStatus,
    resync: Callable[[], int | str],
    sync_router: Callable[[str], str],
    history: HistoryWriter,
    health: Health,
    exposition: Exposition,
) -> ResourceTable:
    """Return the table of resources.  A new resource is one entry here.

    :param resync: begins a rescan and a resync; returns the number of routers, or why it cannot be done
    :param sync_router: fetches the document of a router again and queues it; returns why it cannot be done, or nothing
    """
    return ResourceTable(
        (
            *monitoring(status, health, exposition, exposition.text),
            Resource("/status", lambda request: Answer("200 OK", status.to_json())),
            Resource("/routers/<id>", lambda request: _router(status, request)),
            Resource("/routers/<id>", lambda request: _sync_router(status, sync_router, request), method="POST"),
            Resource("/history", lambda request: history_resource.answer(history, request)),
            Resource("/sync", lambda request: _begin_resync(resync), method="POST"),
        )
    )


def monitoring(
    status: DaemonStatus, health: Health, exposition: Exposition, metrics: Callable[[], bytes]
) -> tuple[Resource, ...]:
    """Return the resources for machines, which show no router's document and change nothing.

    :param metrics: returns the text
    """
    return (
        Resource("/metrics", lambda request: Answer("200 OK", metrics(), exposition.content_type)),
        Resource("/healthz", lambda request: _checked("healthy", health.checks())),
        Resource("/readyz", lambda request: _checked("ready", (*health.checks(), *_readiness(status)))),
    )


def _checked(what: str, checks: Sequence[Check]) -> Answer:
    fine = all(check.ok for check in checks)
    body = {what: fine, "checks": [check.to_json() for check in checks]}
    return Answer("200 OK" if fine else "503 Service Unavailable", body)


def _readiness(status: DaemonStatus) -> tuple[Check, Check]:
    is_over = status.resync.first_done.is_set()
    return (
        Check("documents", not status.obstacle, status.obstacle or "can be listed"),
        Check("first resync", is_over, "over" if is_over else status.resync.progress or "not begun"),
    )


def _router(status: DaemonStatus, request: Request) -> Answer:
    router = status.router(request.rest)
    if router is None:
        return Answer("404 Not Found", {"error": f"no router {request.rest}"})
    return Answer("200 OK", router)


def _sync_router(status: DaemonStatus, sync_router: Callable[[str], str], request: Request) -> Answer:
    if status.router(request.rest) is None:
        return _router(status, request)
    error = sync_router(request.rest)
    if error:
        return Answer("503 Service Unavailable", {"error": error})
    router = status.router(request.rest) or {}  # its document may have been found deleted
    return Answer("202 Accepted", {"queued": 1, "router": router})


def _begin_resync(resync: Callable[[], int | str]) -> Answer:
    queued = resync()
    if isinstance(queued, str):
        return Answer("503 Service Unavailable", {"error": queued})
    return Answer("202 Accepted", {"queued": queued})
