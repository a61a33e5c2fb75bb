"""Promises about faults: of calls, of processes, of files."""

from __future__ import annotations

from bench.reliability.api import Promise

PROMISES: tuple[Promise, ...] = ()
