"""All metrics by name: type, labels, meaning.  ``docs/monitoring.md`` has them as a table, generated from here.

Names and units follow Prometheus' conventions: base units (seconds, bytes), ``_total`` for what only grows.  The
collector cannot make a metric that is not here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from dvr_agent.daemon.job_result import RouterState
from dvr_agent.daemon.jobs import JOB_KINDS, HostJob
from dvr_agent.state.namespace import KIND_OF

PREFIX = "dvr_agent_"

Type = Literal["gauge", "counter", "histogram", "summary"]

STATES = tuple(state.value.replace(" ", "_") for state in RouterState if state is not RouterState.REMOVED)
"""Values of the label ``state`` of routers."""
FIP_STATUSES = ("active", "down", "error")
OBJECTS = (
    "namespace",
    *(kind.name.replace(" ", "_") for kind in KIND_OF.values()),
    *("table", "nft_table", "legacy_table", "port", "service"),
)
"""Kinds of objects, as log and plan name them, with underscores for spaces."""
TROUBLES = ("services", "state_files", "source", "table_lock", "stale_sweep")
WRITES = ("netlink", "commits", "nftables", "sysctls", "namespaces")
HOST_JOBS = tuple(kind.name.lower() for kind in HostJob)


@dataclass(frozen=True, slots=True)
class Definition:
    """A metric.

    :ivar name: with prefix and unit, without the suffixes of a histogram's or summary's series
    :ivar labels: label → what its values are, in words
    :ivar of: ``neutron``: only with that source; ``fip_counters``: only with that option; empty: always
    """

    name: str
    type: Type
    help: str
    labels: dict[str, str] = field(default_factory=dict)
    of: str = ""

    @property
    def series(self) -> tuple[str, ...]:
        """Names of its series, as queries use them."""
        suffixes = {"histogram": ("_bucket", "_sum", "_count"), "summary": ("_sum", "_count")}.get(self.type, ("",))
        return tuple(self.name + suffix for suffix in suffixes)


def _words(values: tuple[str, ...]) -> str:
    return ", ".join(f"`{value}`" for value in values)


_OBJECT = {"kind": _words(OBJECTS)}
_JOB = {"job": _words(JOB_KINDS)}

_ALL = (
    Definition(
        "build_info", "gauge",
        "Always 1; the labels tell version, Neutron's name of the host and agent mode.",
        {"version": "of dvr-agent", "host": "`[DEFAULT] host`", "mode": "`[DEFAULT] agent_mode`"},
    ),
    Definition("in_sync", "gauge", "1 if every router agrees with its document and the host has no trouble, else 0."),
    Definition("ready", "gauge", "1 if /readyz answers 200, else 0."),
    Definition("healthy", "gauge", "1 if /healthz answers 200, else 0."),
    Definition("routers", "gauge", "Routers by state.", {"state": _words(STATES)}),
    Definition(
        "floating_ips", "gauge",
        "Floating IPs of this host by the status that their last job has led to, as Neutron names it.",
        {"status": _words(FIP_STATUSES)},
    ),
    Definition(
        "vrrp_routers", "gauge",
        "HA routers of this host by their VRRP state.",
        {"state": "`master`, `backup`"},
    ),
    Definition(
        "vrrp_master", "gauge",
        "1 if this host is the master of an HA router, else 0. One series per HA router of the host: summed "
        "over all hosts it is 1.",
        {"router_id": "id of the router"},
    ),
    Definition("bad_documents", "gauge", "Router documents that cannot be used."),
    Definition("source_up", "gauge", "1 if router documents can be listed, else 0."),
    Definition(
        "trouble", "gauge",
        "1 if the part of the host has the trouble that dvrctl status tells, else 0.",
        {"part": _words(TROUBLES)},
    ),
    Definition("removal_refused", "gauge", "1 while the guard of the stale sweep refuses to remove routers, else 0."),
    Definition("fights", "gauge", "Routers of which another program changes an object as often as it is repaired."),
    Definition("queue_depth", "gauge", "Jobs that wait or are worked on."),
    Definition(
        "queue_oldest_seconds", "gauge",
        "Age of the event that has waited longest for its job; 0: none waits. A failed router that waits for "
        "its retry is not counted.",
    ),
    Definition(
        "apply_seconds", "histogram",
        "Duration of jobs, from their start to their end.",
        {"job": _words((*JOB_KINDS, *HOST_JOBS))},
    ),
    Definition("job_wait_seconds", "histogram", "Time from a router's event to the start of its job.", _JOB),
    Definition("failures_total", "counter", "Jobs of routers that failed and are repeated.", {"reason": "see below"}),
    Definition(
        "drift_repaired_total", "counter",
        "Objects of the kernel repaired after something else had changed them.",
        _OBJECT,
    ),
    Definition(
        "objects_changed_total", "counter",
        "Objects of the kernel added, changed or removed by routers' jobs.",
        _OBJECT,
    ),
    Definition(
        "kernel_writes_total", "counter",
        "Writes to the kernel: netlink messages that ask for a change, legacy tables committed, nf_tables "
        "transactions, parameters set, namespaces created or removed.",
        {"kind": _words(WRITES)},
    ),
    Definition(
        "kernel_events_total", "counter",
        "Events of the kernel that were read; absent where they cannot be heard.",
    ),
    Definition(
        "round_seconds", "histogram",
        "Duration of a resync of all routers, and of one portion of an audit.",
        {"round": "`resync`, `audit`"},
    ),
    Definition("last_resync_timestamp_seconds", "gauge", "End of the last resync; absent before the first."),
    Definition(
        "last_audit_timestamp_seconds", "gauge",
        "End of the last audit of all routers; absent before the first.",
    ),
    Definition(
        "last_listing_timestamp_seconds", "gauge",
        "Newest complete listing of router documents; absent before the first.",
    ),
    Definition(
        "hub_lateness_seconds", "histogram",
        "How late a timer of the event loop was: the time that the loop was blocked. Measured every 0.5 s.",
    ),
    Definition(
        "worker_busy_seconds", "gauge",
        "For how long the worker thread's call under way has run; 0: it is idle.",
    ),
    Definition("worker_stuck_seconds", "gauge", "For how long that call has used no processor time; see /healthz."),
    Definition("worker_calls_total", "counter", "Calls that the worker thread has carried out."),
    Definition(
        "service_routers", "gauge",
        "Routers that a service serves on this host.",
        {"service": "name of the service"},
    ),
    Definition(
        "service_restarts_total", "counter",
        "Helper processes that died and were started again.",
        {"service": "`radvd`, `keepalived`, `conntrackd`"},
    ),
    Definition(
        "service_waiting", "gauge",
        "Helper processes that died too often and are started again later.",
        {"service": "`radvd`, `keepalived`, `conntrackd`"},
    ),
    Definition("bus_connected", "gauge", "1 if the message bus is connected, else 0.", of="neutron"),
    Definition(
        "bus_reconnects_total", "counter",
        "Times that the connection to the message bus was made again.",
        of="neutron",
    ),
    Definition("bus_notifications_total", "counter", "Messages of neutron-server that were received.", of="neutron"),
    Definition("server_up", "gauge", "1 if neutron-server answers, else 0.", of="neutron"),
    Definition(
        "last_report_timestamp_seconds", "gauge",
        "Last report of the agent's state that the server has answered; absent before the first.",
        of="neutron",
    ),
    Definition(
        "statuses_not_sent", "gauge",
        "Statuses of floating IPs that the server has not been told yet.",
        of="neutron",
    ),
    Definition(
        "full_sync_seconds", "summary",
        "Duration of full syncs with neutron-server (complete ones).",
        of="neutron",
    ),
    Definition(
        "last_full_sync_timestamp_seconds", "gauge",
        "End of the last full sync; absent before the first.",
        of="neutron",
    ),
    Definition(
        "rpc_seconds", "summary",
        "Time until neutron-server answered a call.",
        {"method": "name of the RPC method"},
        of="neutron",
    ),
    Definition(
        "rpc_failures_total", "counter",
        "Calls that neutron-server did not answer, or answered with an exception.",
        {"method": "name of the RPC method"},
        of="neutron",
    ),
    Definition(
        "floating_ip_receive_bytes_total", "counter",
        "Bytes to a floating IP from outside. One series per floating IP of the host, read every "
        "`floating_ips_interval`.",
        {"floating_ip": "its address", "router_id": "id of its router"},
        of="fip_counters",
    ),
    Definition(
        "floating_ip_transmit_bytes_total", "counter",
        "Bytes from a floating IP to the outside. One series per floating IP of the host.",
        {"floating_ip": "its address", "router_id": "id of its router"},
        of="fip_counters",
    ),
    Definition(
        "floating_ip_receive_dropped_packets_total", "counter",
        "Packets to a floating IP that its bandwidth limit has dropped; of limited ones only.",
        {"floating_ip": "its address", "router_id": "id of its router"},
        of="fip_counters",
    ),
    Definition(
        "floating_ip_transmit_dropped_packets_total", "counter",
        "Packets from a floating IP that its bandwidth limit has dropped; of limited ones only.",
        {"floating_ip": "its address", "router_id": "id of its router"},
        of="fip_counters",
    ),
    Definition("scrape_seconds", "gauge", "Processor time that making the previous answer took."),
)  # fmt: skip

METRICS = {PREFIX + one.name: Definition(PREFIX + one.name, one.type, one.help, one.labels, one.of) for one in _ALL}
"""All metrics by their full name."""

PROCESS = (
    "process_cpu_seconds_total",
    "process_max_fds",
    "process_open_fds",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "process_virtual_memory_bytes",
)
"""Series of prometheus_client's own collector for the process."""
