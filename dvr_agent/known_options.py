"""Knows which groups and options a configuration may have, and what a misspelt one may have meant.

Options of this project, of oslo.log, of oslo.messaging and oslo.reports; with them, those of neutron-l3-agent that have
no effect here (``l3_agent_options``).  ``config_check`` and the daemon, at its start, compare files with it.
"""

from __future__ import annotations

import difflib
import importlib.metadata
import warnings
from collections.abc import Iterator
from typing import Any

from dvr_agent import l3_agent_options
from dvr_agent.config_files import group_name
from dvr_agent.options import GROUPS

LIGHT_LIBRARIES = ("oslo.log", "oslo.reports")
"""Names under which libraries list their options for oslo-config-generator; loading these costs next to nothing."""
HEAVY_LIBRARIES = ("oslo.messaging",)
_MESSAGING = """
    transport_url control_exchange rpc_response_timeout rpc_response_max_timeout rpc_conn_pool_size conn_pool_min_size
    conn_pool_ttl executor_thread_pool_size rpc_ping_enabled
"""
MESSAGING_OPTIONS = frozenset(_MESSAGING.split())
"""Options of oslo.messaging in [DEFAULT], and Neutron's for it: known also where the library is not loaded."""
NEUTRON_GROUPS = frozenset({"DEFAULT", "agent", "ovs", "metadata_rate_limiting", "metadata_haproxy"})
"""Groups of ours in which Neutron's files have options of other programs, too."""
LIBRARY_PREFIX = "oslo_"
"""Groups of OpenStack's libraries begin so."""
ENTRY_POINTS = "oslo.config.opts"
_ALIKE = 0.75
"""How similar a name must be to be meant (difflib's ratio); 0.6, its default, finds other options as well."""


class KnownOptions:
    """Names of groups and options; groups as oslo.config spells them.

    :param whole: load the options of oslo.messaging, too; without them all options of its groups count as known
    """

    def __init__(self, whole: bool = False) -> None:
        self._groups: dict[str, set[str]] = {}
        self._deprecated: dict[tuple[str, str], str] = {}
        for name, opts in GROUPS:
            self._add(name, opts)
        self._ours = self._groups.keys() - NEUTRON_GROUPS
        for group, listed in _library_options(LIGHT_LIBRARIES):
            self._add(group, listed)
        self._own = set(self._groups)
        loaded = list(_library_options(HEAVY_LIBRARIES)) if whole else []
        for group, listed in loaded:
            self._add(group, listed)
        self._whole = bool(loaded)
        self._groups["DEFAULT"] |= MESSAGING_OPTIONS

    def is_ours(self, group: str) -> bool:
        """Return True for a group that only this agent has: every option in it is meant for it."""
        return group in self._ours

    def has_group(self, group: str) -> bool:
        """Return True for a group that something here reads, or neutron-l3-agent does."""
        known = group in self._groups or group in l3_agent_options.IGNORED_GROUPS or group.startswith(LIBRARY_PREFIX)
        return known or any(group == old for old, _ in self._deprecated)

    def has_option(self, group: str, option: str) -> bool:
        """Return True for an option that something here reads; also by a deprecated name."""
        if (group, option) in self._deprecated:
            return True
        if group not in self._own and not (self._whole and group in self._groups):
            return group.startswith(LIBRARY_PREFIX)
        return option in self._groups[group]

    def successor(self, group: str, option: str) -> str:
        """Return the name that replaces a deprecated one, ``[group] option``; empty for any other."""
        return self._deprecated.get((group, option), "")

    def meant_group(self, group: str) -> str:
        """Return the group that a misspelt one may have meant; empty if none is like it."""
        folded = {name.lower(): name for name in self._groups}
        return folded.get(group.lower()) or next(iter(_alike(group, list(self._groups))), "")

    def meant_option(self, group: str, option: str) -> str:
        """Return the option that a misspelt one may have meant; ``[group] option`` where it is in another group."""
        here = _alike(option, list(self._groups.get(group, ())))
        if here:
            return here[0]
        elsewhere = [f"[{name}] {option}" for name, options in sorted(self._groups.items()) if option in options]
        return elsewhere[0] if elsewhere else ""

    def _add(self, group: str | None, opts: list[Any]) -> None:
        name = group_name(group or "DEFAULT")
        self._groups.setdefault(name, set()).update(opt.dest for opt in opts)
        for opt in opts:
            for old in opt.deprecated_opts or ():
                old_name = (old.name or opt.name).replace("-", "_")
                self._deprecated[group_name(old.group or name), old_name] = f"[{name}] {opt.dest}"


def _library_options(names: tuple[str, ...]) -> Iterator[tuple[str | None, list[Any]]]:
    """Yield (group, options) of libraries, as oslo-config-generator finds them; of one that is missing, nothing."""
    for entry in importlib.metadata.entry_points(group=ENTRY_POINTS):
        if entry.name in names:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about eventlet, which is not used
                listed = entry.load()()
            for group, opts in listed:
                yield str(getattr(group, "name", group)) if group else None, list(opts)


def _alike(name: str, names: list[str]) -> list[str]:
    return difflib.get_close_matches(name, names, n=1, cutoff=_ALIKE)
