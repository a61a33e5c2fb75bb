"""What is there after the host was started anew: in order, or after its power was cut while routers changed."""

from __future__ import annotations

import json
import os
import random
import time

import pytest

from tests_vm.machine import Machine
from tests_vm.routers import namespaces, router
from tests_vm.site import DOCUMENTS, EXTERNAL, NAMESPACES, ROUTER, Site

SEED = int(os.environ.get("VM_SEED", random.randrange(10**6)))
CHANGING = (1, 2, 3)
STORE = "/root/documents"
CHURN = f"""\
while :; do
    number=$((RANDOM % {len(CHANGING)} + 1)) what=$((RANDOM % 4))
    if [ $what = 3 ]; then
        rm -f {DOCUMENTS}/$number.json
    else
        cp {STORE}/$number-$what.json {DOCUMENTS}/.$number
        sync {DOCUMENTS}/.$number # else it may be empty after a power cut, which would be the operator's loss
        mv {DOCUMENTS}/.$number {DOCUMENTS}/$number.json
    fi
    sleep 0.$((RANDOM % 10))
done
"""


def test_routers_are_back_after_a_reboot(site: Site, node: Machine) -> None:
    node.reboot()
    site.wait_in_sync()
    assert site.namespaces() == NAMESPACES
    site.assert_nothing_to_do()
    for unit in ("dvr-agent", "dvr-metadata-proxy"):
        assert (site.active(unit), site.property("NRestarts", unit)) == ("active", "0")
        assert site.messages("-p", "err", unit=unit) == []
    site.boot_instances()
    site.assert_paths()


@pytest.fixture(scope="module")
def changing(site: Site) -> Site:
    """Documents to choose from, and what chooses."""
    for number in CHANGING:
        for count in range(3):
            site.machine.write(f"{STORE}/{number}-{count}.json", json.dumps(router(number, count)) + "\n")
    site.machine.write(f"{STORE}/churn", CHURN)
    return site


@pytest.mark.parametrize("turn", range(8))
def test_nothing_is_lost_or_left_after_a_power_cut(changing: Site, node: Machine, full: bool, turn: int) -> None:
    """The moment is chosen by chance; VM_SEED repeats the choice, though not what the machine does until then."""
    if not full:
        pytest.skip("only with --full")
    site, moment = changing, random.Random(SEED + turn).uniform(2, 20)
    print(f"VM_SEED={SEED}: cut {turn} after {moment:.2f} s")
    link = link_of_steady_router(site)
    site.machine.run("sync")
    site.machine.run("systemd-run", "-q", "--unit=churn", "bash", f"{STORE}/churn")
    time.sleep(moment)  # time is what is tested: the power goes at any moment
    node.cut_power()

    node.start()
    site.wait_in_sync()
    left = site.machine.run("sh", "-c", f"cat {DOCUMENTS}/*.json | grep -c '\"distributed\"'").out
    ids = {ROUTER} | documents(site)
    assert int(left) == len(ids), "a document is not whole: the fault of the test"
    assert site.namespaces() == namespaces(ids, EXTERNAL)
    site.assert_nothing_to_do()
    assert link_of_steady_router(site) == link
    said = [*site.messages("-p", "warning"), *site.messages("-p", "warning", unit="dvr-metadata-proxy")]
    assert said == []
    assert temporary_files(site) == []
    assert site.property("NRestarts") == "0"


def documents(site: Site) -> set[str]:
    """Ids of the changing routers that have a document."""
    names = site.machine.run("ls", DOCUMENTS).out.split()
    return {router(number)["router"]["id"] for number in CHANGING if f"{number}.json" in names}


def link_of_steady_router(site: Site) -> str:
    """The /31 and the priorities that the router which never changes has been given: state that a restart keeps."""
    words = ("ip", "-n", f"qrouter-{ROUTER}", "-br", "address", "show", "type", "veth")
    found = [line for line in site.machine.run(*words).out.splitlines() if line.startswith("rfp-")]
    assert len(found) == 1, found
    rule = site.machine.run("ip", "-n", f"qrouter-{ROUTER}", "rule", "list", "table", "16").out
    return " ".join(found[0].split()[2:]) + rule


def temporary_files(site: Site) -> list[str]:
    """What a write that was interrupted left among the state files."""
    found = site.machine.run("find", "/var/lib/neutron", "-type", "f").out.splitlines()
    return [one for one in found if os.path.basename(one).startswith(".") or one.endswith(("~", ".tmp", ".new"))]
