"""``dvrctl plan`` of a router whose newest document cannot be used: it keeps what it has, and that is not "in sync"."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dvr_agent.sources.cached_documents import documents_path
from dvr_agent.sources.neutron.crossing.document_files import DocumentFiles
from dvr_agent.sources.neutron.store.document_cache import DocumentCache
from tests.support import lab
from tests.support.ctl import Ctl
from tests.support.daemon_lab import Daemon
from tests.support.waiting import wait_for

REASON = "neutron:r: $.router._interfaces[0].mtu is -1: expected an MTU from 68 to 65535"


@pytest.fixture
def ctl(host: lab.Host, tmp_path: Path) -> Ctl:
    return Ctl(tmp_path)


def router_id(path: Path) -> str:
    return str(json.loads(path.read_text())["router"]["id"])


def spoil(path: Path) -> None:
    """Another document that cannot be used: whose it is can still be told."""
    document = json.loads(path.read_text())
    document["router"]["_interfaces"][0]["mtu"] = -1
    path.write_text(json.dumps(document))


def check_text(ctl: Ctl, code: int, of: str, reason: str) -> None:
    done = ctl.run("plan")
    assert done.returncode == code, done.stdout + done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith(f"router {of}")]
    assert "in sync" not in line
    assert "newest document cannot be used" in line
    assert reason in done.stdout
    assert "1 without the newest document" in done.stdout.splitlines()[-1]


def check_json(ctl: Ctl, code: int, of: str, reason: str) -> Any:
    found = ctl.json("plan", code=code)
    (plan,) = [plan for plan in found["plans"] if plan["subject"] == f"router {of}"]
    assert (found["in_sync"], plan["in_sync"]) == (False, False)
    assert reason in plan["outdated"]
    return found


@contextmanager
def running(ctl: Ctl) -> Iterator[Daemon]:
    daemon = Daemon(ctl.base, DEFAULT={"host": ctl.host, "state_path": ctl.state})
    try:
        yield daemon.start()
    finally:
        daemon.stop()


def test_directory_with_a_bad_document_without_a_daemon(ctl: Ctl) -> None:
    good, bad = ctl.document("a.json"), ctl.document("b.json", number=1)
    ctl.json("apply", good, bad)
    assert ctl.json("plan")["in_sync"] is True
    of = router_id(bad)
    spoil(bad)
    check_text(ctl, 1, of, "_interfaces[0].mtu")
    found = check_json(ctl, 1, of, "_interfaces[0].mtu")
    assert len(found["errors"]) == 1
    assert [plan["in_sync"] for plan in found["plans"] if plan["subject"] == f"router {router_id(good)}"] == [True]


def test_directory_with_a_bad_document_beside_the_daemon(ctl: Ctl) -> None:
    path = ctl.document()
    of = router_id(path)
    with running(ctl) as daemon:
        wait_for(lambda: daemon.status()["state"] == "in sync")
        spoil(path)
        wait_for(lambda: daemon.status()["source"]["bad"])
        check_text(ctl, 1, of, "_interfaces[0].mtu")
        check_json(ctl, 1, of, "_interfaces[0].mtu")


@pytest.fixture
def kept(ctl: Ctl) -> DocumentCache:
    """Documents that the daemon has kept of neutron-server's answers; the kernel agrees with them."""
    paths = [ctl.document("a.json"), ctl.document("b.json", number=1)]
    text = ctl.config.read_text().replace("[dvr_agent]\n", "[dvr_agent]\nsource = neutron\n")
    options = "interface_driver = bridge\nagent_mode = dvr_snat\nenable_metadata_proxy = false\n"
    ctl.config.write_text(text.replace("[DEFAULT]\n", f"[DEFAULT]\n{options}"))
    ctl.json("apply", *paths)
    kept = DocumentCache(DocumentFiles(documents_path(str(ctl.state), ctl.host)))
    for path in paths:
        kept.write(router_id(path), path.read_bytes())
    return kept


def test_neutron_with_an_older_document_in_force(ctl: Ctl, kept: DocumentCache) -> None:
    of = router_id(ctl.routers / "b.json")
    assert ctl.json("plan")["in_sync"] is True
    kept.refuse(of, REASON)
    check_text(ctl, 2, of, REASON)
    found = check_json(ctl, 2, of, REASON)
    assert found["errors"] == []
    kept.accept(of)
    assert ctl.json("plan")["in_sync"] is True


def test_neutron_with_a_router_that_never_had_a_good_document(ctl: Ctl, kept: DocumentCache) -> None:
    of = router_id(ctl.routers / "b.json")
    (documents_path(str(ctl.state), ctl.host) / f"{of}.json").unlink()
    assert ctl.json("plan", code=2)["plans"][-1]["subject"] == "stale objects"
    kept.refuse(of, REASON)
    found = check_json(ctl, 2, of, REASON)
    assert found["total"] == {"add": 0, "remove": 0, "change": 0}
    assert "nothing to remove" in ctl.run("cleanup").stdout


def test_of_a_note_that_is_somebody_elses_nothing_is_told(ctl: Ctl, kept: DocumentCache) -> None:
    secret = ctl.base / "secret"
    secret.write_text("the secret")
    of = router_id(ctl.routers / "b.json")
    os.symlink(secret, documents_path(str(ctl.state), ctl.host) / f"{of}.refused")
    done = ctl.run("plan")
    assert done.returncode == 2
    assert "newest document cannot be used" in done.stdout
    assert "the secret" not in done.stdout + done.stderr
