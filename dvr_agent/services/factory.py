"""Opens the services that the configuration describes."""

from __future__ import annotations

import logging

from dvr_agent.config import Settings
from dvr_agent.kernel import capability
from dvr_agent.services.api import RouterService
from dvr_agent.services.bundle import Services
from dvr_agent.services.conntrackd.service import ConntrackdService
from dvr_agent.services.keepalived.service import KeepalivedService
from dvr_agent.services.metadata.control_client import ControlClient
from dvr_agent.services.metadata.haproxy import L3AgentHaproxies
from dvr_agent.services.metadata.metadata_disabled import MetadataDisabled
from dvr_agent.services.metadata.proxy_session import ProxySession
from dvr_agent.services.metadata.service import MetadataService
from dvr_agent.services.radvd import RadvdService
from dvr_agent.services.vrrp.builtin import BuiltinVrrpService
from dvr_agent.services.vrrp.place import VrrpService
from dvr_agent.settings import HaSettings

LOG = logging.getLogger(__name__)


def open_services(settings: Settings, writable: bool = True) -> Services:
    """Open the services that the configuration describes.

    :param writable: False: the services are used for plans only, and the metadata proxy gets no settings
    """
    radvd, metadata = settings.radvd, settings.metadata
    services: list[RouterService] = [
        RadvdService(
            radvd.ra_confs,
            radvd.external_pids,
            radvd.user,
            radvd.min_interval,
            radvd.max_interval,
            radvd.on_death,
        )
    ]
    client = ControlClient(metadata.control_socket)
    if metadata.enabled:
        haproxies = L3AgentHaproxies(metadata.external_pids, metadata.haproxy_confs)
        session = ProxySession(client, settings.metadata_proxy if writable else None)
        services.append(MetadataService(session, metadata.port, haproxies))
    else:
        services.append(MetadataDisabled(client, writable))
    if writable and _is_keepalived_mute(settings.ha):
        LOG.warning(
            "keepalived may not call conntrackd, since CAP_SETGID is missing: this agent calls it, and tracked "
            "connections wait for the agent after a fail-over without it; see docs/dataplane.md"
        )
    return Services(services, *_open_vrrp(settings.ha))


def _is_keepalived_mute(ha: HaSettings) -> bool:
    """Return True if a keepalived that this agent starts lacks the right to call conntrackd."""
    return ha.conntrackd.enabled and not ha.builtin and not capability.has(capability.CAP_SETGID)


def _open_vrrp(ha: HaSettings) -> tuple[VrrpService, VrrpService]:
    tells_conntrackd = ha.conntrackd.enabled and not ha.builtin
    keepalived = KeepalivedService(ha.confs, ha.external_pids, ha.on_death, tells_conntrackd)
    conntrackd = ConntrackdService(
        ha.conntrackd, ha.confs, ha.on_death, lambda router_id: ha.builtin or not keepalived.can_tell(router_id)
    )
    return BuiltinVrrpService(ha.control_socket, keepalived) if ha.builtin else keepalived, conntrackd
