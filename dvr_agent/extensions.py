"""The extensions of the L3 agent that this agent can serve: the option names them, documents have their objects."""

from __future__ import annotations

from enum import Enum


class Extension(Enum):
    """Extensions of the L3 agent, under the names of Neutron's option ``[agent] extensions``."""

    PORT_FORWARDING = "port_forwarding"
    FIP_QOS = "fip_qos"
    GATEWAY_IP_QOS = "gateway_ip_qos"
    NDP_PROXY = "ndp_proxy"
    CONNTRACK_HELPER = "conntrack_helper"
