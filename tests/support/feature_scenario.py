"""A recorded scenario with objects of L3 agent extensions (``tests/data/feature_documents``)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property

from tests.support import oracle_reader as reader
from tests.support.oracle_recordings import Scenario
from tests.support.recorded_documents import DATA


@dataclass(frozen=True)
class FeatureScenario(Scenario):
    """One scenario as one host sees it."""

    @cached_property
    def raw(self) -> bytes:
        return (DATA / "feature_documents" / f"{self}.json").read_bytes()

    @cached_property
    def recorded(self) -> dict[str, reader.View]:
        """What the reference agent made of it, by namespace."""
        text = (DATA / "feature_kernel_state" / f"{self}.json").read_text()
        return {name: reader.from_json(view) for name, view in json.loads(text).items()}
