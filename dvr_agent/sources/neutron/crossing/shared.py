"""Builds the objects that more than one thread of the source uses; ``source`` passes them to its threads."""

from __future__ import annotations

from dataclasses import dataclass

from dvr_agent.desired.host_settings import HostSettings
from dvr_agent.sources.neutron.api import L3Plugin
from dvr_agent.sources.neutron.crossing.document_files import DocumentFiles
from dvr_agent.sources.neutron.crossing.event_queue import EventQueue
from dvr_agent.sources.neutron.crossing.fetch_inbox import FetchInbox
from dvr_agent.sources.neutron.crossing.fip_states import FipStates
from dvr_agent.sources.neutron.crossing.gateway_port_refs import GatewayPortRefs
from dvr_agent.sources.neutron.crossing.report_inbox import ReportInbox
from dvr_agent.sources.neutron.crossing.router_store import RouterStore
from dvr_agent.sources.neutron.crossing.server_status import ServerStatus
from dvr_agent.sources.neutron.options import NeutronOptions


@dataclass(frozen=True, slots=True)
class SharedParts:
    """Frozen settings and thread-safe objects, made once by ``source``; see ``crossing`` for who uses which.

    :ivar plugin: calls to the server; safe to use from several threads
    """

    plugin: L3Plugin
    host: HostSettings
    options: NeutronOptions
    events: EventQueue
    routers: RouterStore
    files: DocumentFiles
    fetch_inbox: FetchInbox
    report_inbox: ReportInbox
    gateway_ports: GatewayPortRefs
    server: ServerStatus
    fip_states: FipStates

    def is_asking(self) -> bool:
        """Return True while the server is asked, or will be, or the daemon has not taken what its answers led to."""
        return self.fetch_inbox.is_asking() or bool(self.events)


def make_shared(plugin: L3Plugin, host: HostSettings, options: NeutronOptions) -> SharedParts:
    """Build the shared objects of one source."""
    events = EventQueue()
    return SharedParts(
        plugin=plugin,
        host=host,
        options=options,
        events=events,
        routers=RouterStore(events.put, options.max_document_size),
        files=DocumentFiles(options.documents, options.max_document_size),
        fetch_inbox=FetchInbox(),
        report_inbox=ReportInbox(),
        gateway_ports=GatewayPortRefs(),
        server=ServerStatus(),
        fip_states=FipStates(),
    )
