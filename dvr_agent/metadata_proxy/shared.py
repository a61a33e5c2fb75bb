"""What all parts of the process have in common."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from dvr_agent.metadata.settings import ProxySettings
from dvr_agent.metadata_proxy.counters import Counters
from dvr_agent.metadata_proxy.fd_budget import Budget
from dvr_agent.metadata_proxy.log_limit import Journal
from dvr_agent.metadata_proxy.parse_scheduler import Turns


@dataclass(slots=True)
class Shared:
    """
    :ivar stopping: the process ends: every answer is the last one of its connection
    :ivar exchanges: requests with neutron-metadata-agent; the event loop itself keeps no task alive
    """

    settings: ProxySettings
    budget: Budget
    counters: Counters = field(default_factory=Counters)
    journal: Journal = field(default_factory=Journal)
    stopping: bool = False
    turns: Turns = field(default_factory=Turns)
    exchanges: set[asyncio.Task[None]] = field(default_factory=set)
