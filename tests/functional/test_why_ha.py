"""``dvrctl why`` about HA routers: which host has the addresses, and what keeps it from having them."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dvr_agent.cli.why.answer import answer
from dvr_agent.cli.why.facts import Facts
from dvr_agent.cli.why.gather.facts import read_facts
from dvr_agent.config import load
from tests.support import lab
from tests.support.ha_rig import HA_DEVICE, PRIMARY, ROUTER, SNAT, HaSite, ha_document
from tests.support.waiting import wait_for


@pytest.fixture
def site(host: lab.Host, tmp_path: Path) -> Iterator[HaSite]:
    made = HaSite(tmp_path)
    yield made
    made.close()


def test_master_dead_keepalived_two_masters_and_backup_are_named(site: HaSite) -> None:
    site.become_master()
    assert key(facts(site)) is None, answer(facts(site)).sentence
    site.daemon.stop()
    site.write(ha_document(_ha_state="standby"))
    assert key(facts(site)) == "vrrp-two-masters"
    site.write(ha_document())
    for pid in site.pids:
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: key(facts(site)) == "vrrp-dead")
    assert "keepalived" in answer(facts(site)).sentence
    lab.run("ip", "-n", SNAT, "addr", "del", PRIMARY, "dev", HA_DEVICE)
    found = facts(site)
    # As on a backup whose keepalived lives, and of which dvr-agent has heard.
    running = replace(found, plan=replace(found.plan, services=(), changes=()))
    assert key(running) == "vrrp-backup", answer(running).sentence
    assert not answer(running).is_wrong


def facts(site: HaSite) -> Facts:
    return read_facts(load(["--config-file", str(site.daemon.config)], prog="dvrctl"), ROUTER)


def key(found: Facts) -> str | None:
    cause = answer(found).cause
    return cause.key if cause is not None else None
