"""Opens the services that the configuration describes."""

from __future__ import annotations

from pathlib import Path

from oslo_config import cfg

from dvr_agent.config import metadata_wanted
from dvr_agent.errors import ConfigError
from dvr_agent.metadata.settings import proxy_settings
from dvr_agent.services.api import RouterService
from dvr_agent.services.bundle import Services
from dvr_agent.services.metadata.control_client import ControlClient
from dvr_agent.services.metadata.haproxy import L3AgentHaproxies
from dvr_agent.services.metadata.metadata_disabled import MetadataDisabled
from dvr_agent.services.metadata.proxy_session import ProxySession
from dvr_agent.services.metadata.service import MetadataService
from dvr_agent.services.radvd import RadvdService


def open_services(conf: cfg.ConfigOpts, writable: bool = True) -> Services:
    """
    :param writable: False: only plans are asked for
    :raises ConfigError: an option has a value that cannot be used
    """
    if conf.min_rtr_adv_interval > 0.75 * conf.max_rtr_adv_interval:  # radvd.conf(5)
        raise ConfigError(
            f"[DEFAULT] min_rtr_adv_interval = {conf.min_rtr_adv_interval}: expected at most three quarters of "
            f"max_rtr_adv_interval, which is {conf.max_rtr_adv_interval}"
        )
    pids = Path(conf.external_pids)
    services: list[RouterService] = [
        RadvdService(
            Path(conf.ra_confs),
            pids,
            conf.radvd_user,
            conf.min_rtr_adv_interval,
            conf.max_rtr_adv_interval,
            conf.AGENT.check_child_processes_action,
        )
    ]
    client = ControlClient(conf.metadata_proxy.control_socket)
    if metadata_wanted(conf):
        haproxies = L3AgentHaproxies(pids, Path(conf.state_path) / "ns-metadata-proxy")
        session = ProxySession(client, proxy_settings(conf) if writable else None)
        services.append(MetadataService(session, conf.metadata_port, haproxies))
    else:
        services.append(MetadataDisabled(client, writable))
    return Services(services)
