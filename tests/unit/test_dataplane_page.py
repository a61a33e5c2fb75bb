"""``docs/dataplane.md`` names what the desired states of the recorded documents consist of."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dvr_agent.desired import names
from dvr_agent.desired.build import desired_router
from dvr_agent.desired.host_settings import AgentMode, HostSettings
from dvr_agent.desired.host_view import make_view
from dvr_agent.errors import NotSupportedError
from dvr_agent.model.parse import parse_document
from dvr_agent.reconcile.allocations import Allocations
from dvr_agent.state.namespace import NamespaceState
from dvr_agent.state.ownership import FIP_PRIORITIES, FIP_TABLE

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = (ROOT / "docs" / "dataplane.md").read_text()
DOCUMENTS = sorted((ROOT / "tests" / "data" / "documents").glob("*.json"))
MODES = {"compute1": AgentMode.DVR_SNAT, "compute2": AgentMode.DVR, "compute3": AgentMode.DVR_NO_EXTERNAL}
KINDS = (names.QROUTER, names.FIP, names.SNAT)
DEVICE = re.compile(r"\b(qr|rfp|fpr|fg|sg|qg|ha)-[0-9a-f-]+")


def section(heading: str) -> str:
    """The text below a heading, up to the next one of the same level."""
    return re.split(r"^## ", PAGE.partition(f"\n## {heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]


def states(tmp_path: Path) -> list[NamespaceState]:
    """Every namespace state that the recorded documents give on their hosts."""
    found: list[NamespaceState | None] = []
    for path in DOCUMENTS:
        host = path.stem.rpartition("-")[2]
        if host not in MODES:
            continue
        try:
            view = make_view(parse_document(path.read_bytes(), path.name), HostSettings(host=host, mode=MODES[host]))
        except NotSupportedError:
            continue
        state = desired_router(view, Allocations(tmp_path).allocate(view))
        found += [state.qrouter, state.base, state.slice, state.snat]
    return [one for one in found if one is not None]


def test_every_sysctl_is_named_with_its_value(tmp_path: Path) -> None:
    rows = [line for line in section("Sysctls").splitlines() if line.startswith("| `")]
    for state in states(tmp_path):
        kind = state.name.partition("-")[0]
        for sysctl in state.sysctls:
            key = DEVICE.sub(r"<\1->", sysctl.key).replace("/", ".")
            row = next((row for row in rows if f"`{key}`" in row), "")
            _, _, value, where, _ = row.split("|") if row else ("",) * 5
            assert sysctl.value in re.findall(r"\d", value), f"{key} = {sysctl.value}"
            assert where.strip() == "all" or kind in where, f"{key} in {kind}"


def test_every_rule_has_a_documented_priority_and_table(tmp_path: Path) -> None:
    rows = section("qrouter")
    assert f"| {FIP_PRIORITIES[0]} … {FIP_PRIORITIES[-1]} | IPv4 | `from <fixed IP> lookup {FIP_TABLE}`" in rows
    alone = {int(number) for row in re.findall(r"^\| ([\d, ]+) \|", rows, re.MULTILINE) for number in row.split(",")}
    for state in states(tmp_path):
        for rule in state.rules:
            assert rule.priority in alone or rule.priority in FIP_PRIORITIES or rule.priority == rule.table, rule.text


def test_every_packet_filter_table_is_in_its_namespaces_row(tmp_path: Path) -> None:
    rows = {
        row.split("|")[1].strip(): row.split("|")[2:4] for row in section("Packet filter").splitlines() if "|" in row
    }
    for state in states(tmp_path):
        by_family = rows[state.name.partition("-")[0]]
        for table in state.tables:
            assert table.name in by_family[table.family == 6], f"{table.text} in {state.name}"


@pytest.mark.parametrize("prefix", KINDS)
def test_each_kind_of_namespace_has_a_section(prefix: str) -> None:
    assert section(prefix.removesuffix("-"))
    assert f"| `{prefix}<" in section("Namespaces")


def test_every_device_prefix_is_named(tmp_path: Path) -> None:
    prefixes = {DEVICE.match(link.name)[1] for state in states(tmp_path) for link in state.links}  # type: ignore[index]
    assert prefixes == set(re.findall(r"^\| `(\w+)-` \|", section("Names"), re.MULTILINE))
