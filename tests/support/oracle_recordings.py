"""The recorded scenarios: which there are, their documents, and what the reference agent made of them.

Nothing of the code under test is used here; ``build`` builds them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.support import lab
from tests.support import oracle_reader as reader
from tests.support.oracle_normalise import fip_side
from tests.support.oracle_watch import until_settled
from tests.support.recorded_documents import DATA


@dataclass(frozen=True)
class Scenario:
    """One scenario as one host sees it."""

    name: str
    host: str

    def __str__(self) -> str:
        return f"{self.name}-{self.host}"

    @cached_property
    def raw(self) -> bytes:
        return (DATA / "documents" / f"{self}.json").read_bytes()

    @cached_property
    def document(self) -> dict[str, Any]:
        decoded: dict[str, Any] = json.loads(self.raw)
        return decoded

    @property
    def router(self) -> dict[str, Any]:
        found: dict[str, Any] = self.document["router"]
        return found

    @cached_property
    def recorded(self) -> dict[str, reader.View]:
        """What the reference agent made of it, by namespace."""
        text = (DATA / "kernel_state" / f"{self}.json").read_text()
        return {name: reader.from_json(view) for name, view in json.loads(text).items()}

    @property
    def external_network(self) -> str | None:
        gateway = self.router.get("gw_port")
        return gateway["network_id"] if gateway else None

    def ports(self) -> dict[str, dict[str, Any]]:
        """Device name → Neutron port, for every port that some namespace may hold."""
        router = self.router
        found = {}
        for prefix, ports in (
            ("qr-", router.get("_interfaces", [])),
            ("sg-", router.get("_snat_router_interfaces", [])),
            ("fg-", router.get("_floatingip_agent_interfaces", [])),
            ("qg-", [router["gw_port"]] if router.get("gw_port") else []),
        ):
            found.update({(prefix + port["id"])[:14]: port for port in ports})
        return found

    def observe(self) -> dict[str, reader.View]:
        """What is there of this router, by namespace, when the kernel has made its link-local addresses."""
        names = {f"qrouter-{self.router['id']}", f"snat-{self.router['id']}", f"fip-{self.external_network}"}
        present = [name for name in sorted(names) if (lab.NETNS / name).exists()]
        until_settled(present)
        return {name: reader.read(name) for name in present}

    def seed(self, state_path: Path) -> None:
        """State files with the pair and the priorities that the reference agent chose, in its format."""
        state_path.mkdir(exist_ok=True)
        short = self.router["id"][:10]
        pairs, priorities = [], []
        for name, view in self.recorded.items():
            if not name.startswith("qrouter-"):
                continue
            address = fip_side(view, f"rfp-{short}")
            if address is not None:
                pairs.append(f"{self.router['id']},{address}/31\n")
            by_fixed = {rule.src: rule.priority for rule in view.rules if rule.table == 16}
            for fip in self.router.get("_floatingips", []):
                if fip["fixed_ip_address"] in by_fixed:
                    priorities.append(f"{fip['floating_ip_address']},{by_fixed[fip['fixed_ip_address']]}\n")
        (state_path / "fip-linklocal-networks").write_text("".join(pairs))
        (state_path / "fip-priorities").write_text("".join(priorities))


@dataclass(frozen=True)
class FeatureScenario(Scenario):
    """A scenario of ``tests/data/feature_documents``.  Those of one name are steps of one router's life."""

    @cached_property
    def raw(self) -> bytes:
        return (DATA / "feature_documents" / f"{self}.json").read_bytes()

    @cached_property
    def recorded(self) -> dict[str, reader.View]:
        text = (DATA / "feature_kernel_state" / f"{self}.json").read_text()
        return {name: reader.from_json(view) for name, view in json.loads(text).items()}


def recorded_scenarios() -> list[Scenario]:
    """All that have a recorded kernel state."""
    stems = sorted(path.stem for path in (DATA / "kernel_state").glob("*.json"))
    return [Scenario(*stem.rsplit("-", 1)) for stem in stems]
