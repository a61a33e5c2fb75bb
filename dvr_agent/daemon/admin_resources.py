"""The resources of the admin socket.

========================  ====================================================================================
``GET /status``           everything, see :meth:`dvr_agent.daemon.status.DaemonStatus.to_json`
``GET /routers/<id>``     one router of it, with the statuses of its floating IPs here and at the server
``POST /routers/<id>``    fetch its document again and queue it at once; answers 202 with the router
``GET /history``          what was changed, and when, see ``history_resource``
``POST /sync``            rescan, then resync of every router; answers 202 with the number of routers
========================  ====================================================================================
"""

from __future__ import annotations

from collections.abc import Callable

from dvr_agent.daemon import history_resource
from dvr_agent.daemon.http_resources import Answer, Request, Resource, ResourceTable
from dvr_agent.daemon.status import DaemonStatus
from dvr_agent.history.writer import HistoryWriter


def make_table(
    status: DaemonStatus,
    resync: Callable[[], int | str],
    sync_router: Callable[[str], str],
    history: HistoryWriter,
) -> ResourceTable:
    """Return the table of resources.  A new resource is one entry here.

    :param resync: begins a rescan and a resync; returns the number of routers, or why it cannot be done
    :param sync_router: fetches the document of a router again and queues it; returns why it cannot be done, or nothing
    """
    return ResourceTable(
        (
            Resource("/status", lambda request: Answer("200 OK", status.to_json())),
            Resource("/routers/<id>", lambda request: _router(status, request)),
            Resource("/routers/<id>", lambda request: _sync_router(status, sync_router, request), method="POST"),
            Resource("/history", lambda request: history_resource.answer(history, request)),
            Resource("/sync", lambda request: _begin_resync(resync), method="POST"),
        )
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
