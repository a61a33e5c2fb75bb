"""YAML in the documentation parses, and variables of other projects in it are those that these have."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

DOCS = Path(__file__).resolve().parent.parent.parent / "docs"
BLOCKS = [
    pytest.param(block, id=f"{page.name}-{number}")
    for page in sorted(DOCS.glob("*.md"))
    for number, block in enumerate(re.findall(r"^```yaml\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL), 1)
]
OTHERS = {
    "neutron_l3",  # openstack-ansible-os_neutron, vars/main.yml
    "neutron_l3_agent_extra_volumes",  # kolla-ansible, ansible/roles/neutron/defaults/main.yml, as the next ones
    "neutron_l3_agent_healthcheck_test",
    "neutron_l3_agent_image",
    "neutron_l3_agent_tag",
    "neutron_modules_extra",
}
"""Looked up in the sources of both projects."""


@pytest.mark.parametrize("block", BLOCKS)
def test_it_parses_and_names_known_variables(block: str) -> None:
    value: Any = yaml.safe_load(block)
    assert value
    if isinstance(value, dict):
        assert {name for name in value if name.startswith("neutron_")} <= OTHERS


def test_the_deployments_page_has_its_blocks() -> None:
    assert sum(str(block.id).startswith("deployments.md") for block in BLOCKS) == 3
