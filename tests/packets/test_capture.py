"""``dvrctl capture --run``: one ping is seen at every place that it passes, with the addresses that it has there."""

from __future__ import annotations

import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support import lab
from tests.support.ctl import Ctl
from tests.support.packet_documents import Network, RouterDocument
from tests.support.packet_world import INTERNET, NODE, PUBLIC, World, fip_namespace
from tests.support.pcapng import Seen, read
from tests.support.waiting import wait_for

RED = Network("red", ("10.1.0.0/24",))
FIP, FIXED, CENTRAL, CENTRAL_FIXED = "203.0.113.51", "10.1.0.11", "203.0.113.60", "10.1.0.12"
REQUEST, REPLY = 8, 0


@pytest.fixture(scope="module")
def router(shared_world: World) -> RouterDocument:
    cloud = shared_world.cloud
    one, other = cloud.vm("one", RED, FIXED), cloud.vm("other", RED, CENTRAL_FIXED, host="")
    made = cloud.router("main", RED).gateway(PUBLIC, "203.0.113.10")
    made.floating_ip(FIP, one).floating_ip(CENTRAL, other, central=True)
    shared_world.apply(made)
    shared_world.boot(one, other)
    shared_world.settle()
    return made


@pytest.fixture
def ctl(router: RouterDocument, tmp_path: Path) -> Ctl:
    made = Ctl(tmp_path)
    text = made.config.read_text().replace(made.host, NODE)
    made.config.write_text(f"{text}[bridge]\nexternal_networks = {PUBLIC.id}:br-ex\n")
    (made.routers / "main.json").write_bytes(router.raw())
    return made


@contextmanager
def capturing(ctl: Ctl, *words: object) -> Iterator[subprocess.Popen[str]]:
    """dvrctl captures inside the block, and has ended after it."""
    command = [sys.executable, "-m", "dvr_agent.cli.ctl", "--config-file", ctl.config, "capture", "--run", *words]
    with subprocess.Popen(
        list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ctl.base
    ) as process:
        try:
            assert process.stderr is not None
            assert "capturing at" in process.stderr.readline()
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
            process.wait(60)


def children(process: subprocess.Popen[str]) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def exists(pid: int) -> bool:
    """True while a process runs; one that has ended and that nobody has waited for counts as gone."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def ways(packets: list[Seen], *addresses: str) -> tuple[dict[str, tuple[str, str]], dict[str, tuple[str, str]]]:
    """Interface → source and destination of its echo requests, and of its replies, from or to some addresses."""
    chosen = [seen for seen in packets if {seen.source, seen.destination} & set(addresses)]
    requests = {seen.interface: (seen.source, seen.destination) for seen in chosen if seen.kind == REQUEST}
    return requests, {seen.interface: (seen.source, seen.destination) for seen in chosen if seen.kind == REPLY}


def devices(namespace: str) -> dict[str, str]:
    """Beginning of a device's name → name of the interface in a capture."""
    names = [link["ifname"] for link in lab.ip_json("link", netns=namespace)]
    return {name.partition("-")[0]: f"{namespace}:{name}" for name in names if "-" in name}


def tap(interface: str) -> str:
    return f"host:tap{interface.rpartition(':')[2][3:]}"


def test_a_ping_is_seen_at_every_place_with_the_addresses_that_it_has_there(ctl: Ctl, router: RouterDocument) -> None:
    path = ctl.base / "one.pcapng"
    fip, qrouter, snat = devices(fip_namespace()), devices(router.qrouter), devices(router.snat_namespace)
    with capturing(ctl, "main", "-w", path) as process:
        tcpdumps = children(process)
        assert lab.ping("internet", FIP)
        assert lab.ping("internet", CENTRAL)
        wait_for(lambda: (snat["sg"], INTERNET, CENTRAL_FIXED, REQUEST) in {seen[:4] for seen in read(path).packets})
    assert process.returncode == 0
    assert not any(map(exists, tcpdumps))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    found = read(path)
    before = {tap(fip["fg"]), fip["fg"], fip["fpr"], qrouter["rfp"]}
    after = {qrouter["qr"], tap(qrouter["qr"])}
    requests, replies = ways(found.packets, FIP, FIXED)
    uplink = requests.keys() - before - after
    assert len(uplink) >= 1  # ports of others on br-ex: the internet's
    assert {requests[name] for name in before | uplink} == {(INTERNET, FIP)}
    assert {replies[name] for name in before | uplink} == {(FIP, INTERNET)}
    assert {requests[name] for name in after} == {(INTERNET, FIXED)}
    assert {replies[name] for name in after} == {(FIXED, INTERNET)}
    requests, _ = ways(found.packets, CENTRAL, CENTRAL_FIXED)
    assert {requests[name] for name in (tap(snat["qg"]), snat["qg"])} == {(INTERNET, CENTRAL)}
    assert {requests[name] for name in (snat["sg"], tap(snat["sg"]))} == {(INTERNET, CENTRAL_FIXED)}
    assert not [name for name in requests if ":rfp-" in name or ":fpr-" in name]
    assert [seen.time for seen in found.packets] == sorted(seen.time for seen in found.packets)
    assert found.received[qrouter["qr"]] >= 2
    text = lab.run("tcpdump", "-n", "-r", path)
    assert len(text.splitlines()) == found.blocks.count(6)
    assert f"IP {INTERNET} > {FIXED}: ICMP echo request" in text


def test_the_packets_of_a_floating_ip_alone_can_be_read_from_standard_output(ctl: Ctl) -> None:
    with capturing(ctl, FIP, "-w", "-", "--count", 3) as process:
        lab.ping("internet", CENTRAL)
        lab.ping("internet", FIP)
        command = ["tcpdump", "-n", "-r", "-"]
        done = subprocess.run(command, stdin=process.stdout, capture_output=True, text=True, check=True)
        assert process.wait(60) == 0
    assert len(done.stdout.splitlines()) == 3
    assert CENTRAL not in done.stdout


def test_a_killed_capture_leaves_no_process(ctl: Ctl) -> None:
    with capturing(ctl, FIP) as process:
        tcpdumps = children(process)
        assert len(tcpdumps) >= 7
        process.kill()
    wait_for(lambda: not any(map(exists, tcpdumps)))


def test_the_commands_are_printed_and_no_file_is_overwritten(ctl: Ctl, router: RouterDocument) -> None:
    found = ctl.json("capture", FIP)
    commands = {(place["namespace"], place["device"]): place["command"] for place in found["places"]}
    rfp = devices(router.qrouter)["rfp"].rpartition(":")[2]
    enter = ["ip", "netns", "exec", router.qrouter]
    chosen = f"host {FIP} or host {FIXED}"
    assert commands[router.qrouter, rfp] == [*enter, "tcpdump", "-n", "-e", "-p", "-i", rfp, chosen]
    refused = ctl.run("capture", "--run", FIP, "-w", ctl.config)
    assert (refused.returncode, refused.stderr) == (1, f"dvrctl: {ctl.config} cannot be made: File exists\n")
    before = sorted(ctl.base.iterdir())
    refused = ctl.run("capture", "--run", FIP, "-w", ctl.base / "new", PATH=str(ctl.base))
    assert (refused.returncode, refused.stderr) == (1, "dvrctl: tcpdump is not installed\n")
    assert sorted(ctl.base.iterdir()) == before
