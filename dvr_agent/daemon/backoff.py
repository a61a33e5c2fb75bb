"""The daemon's waiting times between tries: those of ``dvr_agent.backoff``."""

from __future__ import annotations

from dvr_agent.backoff import JITTER, delay

__all__ = ["JITTER", "delay"]
