"""Opens the services that the configuration describes."""

from __future__ import annotations

from dvr_agent.config import Settings
from dvr_agent.errors import ConfigError
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


def open_services(settings: Settings, writable: bool = True) -> Services:
    """Open the services that the configuration describes.

    :param writable: False: the services are used for plans only, and the metadata proxy gets no settings
    :raises ConfigError: an option has a value that cannot be used
    """
    radvd, metadata = settings.radvd, settings.metadata
    if radvd.min_interval > 0.75 * radvd.max_interval:  # radvd.conf(5)
        raise ConfigError(
            f"[DEFAULT] min_rtr_adv_interval = {radvd.min_interval}: expected at most three quarters of "
            f"max_rtr_adv_interval, which is {radvd.max_interval}"
        )
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
    return Services(services, *_open_vrrp(settings.ha))


def _open_vrrp(ha: HaSettings) -> tuple[VrrpService, VrrpService]:
    tells_conntrackd = ha.conntrackd.enabled and not ha.builtin
    keepalived = KeepalivedService(ha.confs, ha.external_pids, ha.on_death, tells_conntrackd)
    conntrackd = ConntrackdService(ha.conntrackd, ha.confs, ha.on_death, agent_tells=ha.builtin)
    return BuiltinVrrpService(ha.control_socket, keepalived) if ha.builtin else keepalived, conntrackd
