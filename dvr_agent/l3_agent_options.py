"""Finds options of neutron-l3-agent that have no effect here, and logs them at the start.

Neutron's own files are used as they are (``neutron.conf``, ``l3_agent.ini``), and oslo.config ignores options that are
not registered.  So :func:`log_ignored`, which the daemon calls at its start, reads the files once more, as text.
Options of the server and of other agents, which stand in the same files, are not reported; misspelt ones are found by
``config_check``.

Names: neutron/conf/agent/l3/config.py, l3/ha.py, l3/keepalived.py, agent/common.py, agent/metadata/config.py of Neutron
29, and those of some versions before it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from dvr_agent import config_files
from dvr_agent.extensions import Extension
from dvr_agent.options import GROUPS

LOG = logging.getLogger(__name__)

DEFAULT_OPTIONS = """
    metadata_proxy_user metadata_proxy_group metadata_proxy_watch_log
    cleanup_on_shutdown per_router_log_files router_log_files_in_ha_confs
    ha_keepalived_state_change_server_threads
    prefix_delegation_driver pd_confs vendor_pen dibbler_path
    use_namespaces router_id router_delete_namespaces external_network_bridge gateway_external_network_id
    send_arp_for_ha enable_snat_by_default
"""
AGENT_OPTIONS = """
    root_helper root_helper_daemon use_helper_for_ns_read rootwrap_config comment_iptables_rules debug_iptables_rules
    kill_scripts_path
"""
IGNORED: Mapping[str, frozenset[str]] = {
    "DEFAULT": frozenset(DEFAULT_OPTIONS.split()),
    "agent": frozenset(AGENT_OPTIONS.split()),
}
"""Group, as oslo.config spells it → options.  An option that this agent registers is not ignored."""

IGNORED_GROUPS = frozenset({"network_log", "l3_agent"})
"""Groups with options of neutron-l3-agent only."""

EXTENSIONS = {
    "snat_log": "log of SNAT",
}
"""Extensions of neutron-l3-agent that this agent lacks, and what is missing without them."""

_SERVED = frozenset(extension.value for extension in Extension)

Values = dict[tuple[str, str], str]
"""Group and option → the last value that the files give it; a list's elements are separated by commas."""


def log_ignored(files: Iterable[Path]) -> None:
    """Log functions that the configuration files ask for and this agent lacks, and options without effect."""
    values = read_files(files)
    for sentence in unsupported_functions(values):
        LOG.warning("%s", sentence)
    names = ignored_options(values)
    if names:
        LOG.info("options of neutron-l3-agent that are set and have no effect here: %s", ", ".join(names))


def ignored_options(values: Values) -> list[str]:
    """Return ``[group] option`` of all options that are set and have no effect here, sorted; values are not shown."""
    registered = _registered()
    found = []
    for group, option in values:
        if option in registered.get(group, ()):
            continue
        if is_ignored(group, option):
            found.append(f"[{group}] {option}")
    return sorted(found)


def is_ignored(group: str, option: str) -> bool:
    """Return True for an option that neutron-l3-agent reads, and this agent does not unless it registers it."""
    return group in IGNORED_GROUPS or option in IGNORED.get(group, ())


def unsupported_functions(values: Values) -> list[str]:
    """Return a sentence per function that the configuration asks for and this agent lacks."""
    registered = _registered()
    sentences = []
    for name in filter(None, (part.strip() for part in values.get(("agent", "extensions"), "").split(","))):
        if name in _SERVED:
            continue
        what = EXTENSIONS.get(name, "function of it")
        sentences.append(f"[AGENT] extensions: {name} is not supported: no {what} on this host")
    for (group, option), (is_asked_for, sentence) in UNSUPPORTED.items():
        value = values.get((group, option))
        if value is not None and option not in registered.get(group, ()) and is_asked_for(value):
            sentences.append(f"[{group}] {option} = {value[:80]}: {sentence}")
    return sentences


def read_files(files: Iterable[Path]) -> Values:
    """Return the values that the files set; the last file that sets an option takes precedence."""
    return {name: ",".join(found.lines) for name, found in config_files.read(files).items()}


def _is_true(value: str) -> bool:
    return value.strip().lower() in ("true", "1", "yes", "on")


UNSUPPORTED: dict[tuple[str, str], tuple[Callable[[str], bool], str]] = {
    ("DEFAULT", "cleanup_on_shutdown"): (_is_true, "routers stay when this agent stops; dvrctl cleanup removes them"),
    ("DEFAULT", "per_router_log_files"): (_is_true, "there is one log; its lines carry the router's id"),
}
"""Group and option → (predicate: the value asks for the function, sentence about this agent's behaviour)."""


def _registered() -> dict[str, set[str]]:
    """Return registered options by group, groups as oslo.config spells them."""
    return {name if name == "DEFAULT" else name.lower(): {opt.dest for opt in opts} for name, opts in GROUPS}
