"""This host: the part of the configuration that the desired state depends on, and what its kernel can do."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from ipaddress import IPv6Address

from dvr_agent.extensions import Extension


class AgentMode(Enum):
    """Neutron's ``agent_mode`` for distributed routers."""

    DVR = "dvr"
    DVR_SNAT = "dvr_snat"
    DVR_NO_EXTERNAL = "dvr_no_external"


class VrrpAuth(Enum):
    """Neutron's ``ha_vrrp_auth_type``: authentication of VRRP advertisements."""

    AH = "AH"
    PASS = "PASS"


@dataclass(frozen=True, slots=True)
class VrrpSettings:
    """What all hosts of an HA router have to agree on, beside its document.

    :ivar interval: seconds between two advertisements (``ha_vrrp_advert_int``)
    :ivar auth: ``ha_vrrp_auth_type``, of no account without a password
    :ivar password: ``ha_vrrp_auth_password``, a secret
    :ivar check_interval: seconds between two checks of the gateways (``ha_vrrp_health_check_interval``), 0: none
    """

    interval: int = 2
    auth: VrrpAuth = VrrpAuth.PASS
    password: str = field(default="", repr=False)
    check_interval: int = 0


@dataclass(frozen=True, slots=True)
class HostSettings:
    """Settings of this host, from the configuration.

    :ivar host: this host's name as Neutron knows it
    :ivar random_fully: SNAT picks source ports fully at random (``use_random_fully``)
    :ivar metadata_mark: ``metadata_access_mark``, 16 bits
    :ivar ingress_mark: ``external_ingress_mark``, 16 bits
    :ivar metadata: a proxy listens for metadata requests in each router's namespace: redirect them to it
    :ivar metadata_port: port of that proxy
    :ivar ipv6: this kernel has IPv6 (it was not booted with ``ipv6.disable=1``)
    :ivar extensions: L3 agent extensions that are served (``[agent] extensions``); objects of others are not built
    :ivar count_floating_ips: count the bytes from and to each floating IP (``[metrics] floating_ips``)
    :ivar no_limits: why this kernel can limit no bandwidth; empty: it can
    :ivar vrrp: of HA routers
    :ivar ipv6_gateway: link-local IPv6 next hop of gateway ports without an IPv6 subnet, None to learn one
    """

    host: str
    mode: AgentMode
    random_fully: bool = True
    metadata_mark: int = 0x1
    ingress_mark: int = 0x2
    metadata: bool = False
    metadata_port: int = 9697
    ipv6: bool = True
    ipv6_gateway: IPv6Address | None = None
    extensions: frozenset[Extension] = frozenset()
    no_limits: str = ""
    count_floating_ips: bool = False
    vrrp: VrrpSettings = VrrpSettings()
