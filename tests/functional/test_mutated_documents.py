"""Whatever documents ask for: the kernel has what can be built of it, and nothing is left when they are right again.

Documents are recorded ones with random changes, one after the other, each with the jobs that follow from it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.daemon_site import comparable, snapshot
from tests.support.document_walk import Walk

STEPS = 8
SEEDS = [*range(6), *(pytest.param(seed, marks=pytest.mark.full) for seed in range(6, 120))]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("has_ovs", [False, True], ids=["bridge", "openvswitch"])
def test_after_any_documents_the_kernel_is_as_the_last_ones_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_ovs: bool, seed: int
) -> None:
    walk = Walk(seed, tmp_path, monkeypatch, has_ovs)
    try:
        with walk.host("walk") as host:
            walk.put(host.jobs, *walk.routers)
            for _ in range(STEPS):
                walk.step(host)
            walk.put(host.jobs, *walk.routers)
            walked, built = comparable(snapshot()), host.jobs.built
        # Which of two routers has which /31 depends on what was before; one that is left alone keeps what it has.
        if len(walk.routers) == len(built) == 1:
            with walk.host("new") as host:
                walk.put(host.jobs, *walk.routers)
                assert comparable(snapshot()) == walked
    except AssertionError as exc:
        raise AssertionError("\n".join([*walk.log, str(exc)])) from None
