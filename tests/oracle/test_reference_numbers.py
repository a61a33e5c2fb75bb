"""A host taken over from the reference agent: its state files are there, so every number must be the recorded one.

The /31 pair, the table and priority made from it in the fip namespace, and the priorities of floating IPs.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import lab
from tests.support.oracle_build import make_host, parse
from tests.support.oracle_normalise import as_wanted, differences, normalised
from tests.support.oracle_recordings import Scenario, recorded_scenarios
from tests.support.recorded_documents import MODES


@pytest.mark.parametrize("scenario", recorded_scenarios(), ids=str)
def test_numbers_are_those_of_the_state_files(scenario: Scenario, host: lab.Host, tmp_path: Path) -> None:
    scenario.seed(tmp_path)
    before = {path.name: sorted(path.read_text().splitlines()) for path in tmp_path.iterdir()}
    reconciler = make_host(host, scenario.host, [scenario], tmp_path, MODES[scenario.host])
    reconciler.reconcile(parse(scenario))
    reconciler.flush()
    recorded = normalised(as_wanted(scenario.recorded), scenario.document, seeded=True)
    actual = normalised(scenario.observe(), scenario.document, seeded=True)
    assert differences(recorded, actual) == []
    for name, lines in before.items():
        assert sorted((tmp_path / name).read_text().splitlines()) == lines
