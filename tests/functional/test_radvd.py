"""Router advertisements by a real radvd: what instances learn from it, and that there is always exactly one."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dvr_agent.errors import ServiceError, ServiceFatalError
from dvr_agent.model.router import RaMode
from dvr_agent.services import children
from dvr_agent.services.processes import children_of, running
from tests.support import lab
from tests.support.radvd_rig import DEVICE, ID, OTHER, PATIENCE, PREFIX, SPACE, Rig, router
from tests.support.waiting import wait_for


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    tmp_path.chmod(0o755)
    with lab.fresh_host():
        made = Rig(tmp_path)
        yield made
        made.service.close()
        for pid, words in list(running("radvd")):
            if any(word.startswith(str(tmp_path)) for word in words):
                os.kill(pid, signal.SIGKILL)


def test_an_instance_learns_address_route_and_mtu(rig: Rig) -> None:
    assert rig.service.plan(router()) == ["+ radvd"]
    rig.service.apply(router())
    assert rig.service.plan(router()) == []
    wait_for(rig.learned, "the instance has learned")
    assert lab.in_netns("vm", "sysctl", "-n", "net.ipv6.conf.eth0.mtu").strip() == "1400"
    assert len(rig.mains()) == 1
    assert rig.service.status()["routers"] == 1


def test_a_second_run_does_nothing_and_a_change_is_read_by_the_same_process(rig: Rig) -> None:
    rig.service.apply(router())
    pid, written = rig.pid, rig.conf.stat().st_mtime_ns
    rig.service.apply(router())
    assert (rig.pid, rig.conf.stat().st_mtime_ns) == (pid, written)
    changed = router(mtu=1300)
    assert rig.service.plan(changed) == ["~ radvd configuration"]
    rig.service.apply(changed)
    wait_for(
        lambda: lab.in_netns("vm", "sysctl", "-n", "net.ipv6.conf.eth0.mtu").strip() == "1300", "the new MTU arrived"
    )
    assert rig.mains() == [pid]


@pytest.mark.parametrize("mode", [None, "down"])
def test_a_router_that_advertises_nothing_has_none(rig: Rig, mode: str | None) -> None:
    rig.service.apply(router())
    without = router(None)
    if mode == "down":
        without = replace(router(), interfaces=tuple(replace(p, admin_state_up=False) for p in router().interfaces))
    assert rig.service.plan(without) == ["- radvd"]
    rig.service.apply(without)
    assert rig.mains() == []
    assert not rig.conf.exists()
    assert not rig.pid_file.exists()
    assert rig.service.plan(without) == []


def test_a_removed_router_leaves_nothing(rig: Rig) -> None:
    rig.service.apply(router())
    assert list(rig.service.routers()) == [ID]
    assert rig.service.plan_remove(ID) == ["- radvd"]
    rig.service.remove(ID)
    assert (rig.mains(), list(rig.service.routers()), rig.service.plan_remove(ID)) == ([], [], [])
    rig.service.remove(ID)
    rig.service.remove(OTHER)


def test_one_that_is_killed_is_told_of_and_started_again(rig: Rig) -> None:
    rig.service.apply(router())
    first = rig.pid
    os.kill(first, signal.SIGKILL)
    assert rig.told() == [ID]
    rig.service.apply(router())
    assert rig.mains() == [rig.pid]
    assert rig.pid != first
    rig.forget()
    wait_for(rig.learned, "the instance has learned again")


def test_one_that_dies_again_and_again_is_waited_for_longer(rig: Rig) -> None:
    rig.service.apply(router())
    os.kill(rig.pid, signal.SIGKILL)
    assert rig.told() == [ID]
    rig.service.apply(router())
    os.kill(rig.pid, signal.SIGKILL)
    assert select.select([rig.service.fileno()], [], [], PATIENCE)[0]
    assert list(rig.service.changed()) == []
    with pytest.raises(ServiceError, match=r"died 2 times in a row"):
        rig.service.apply(router())
    assert rig.service.status()["waiting"] == [ID]
    assert rig.told() == [ID]
    rig.service.apply(router())
    assert rig.mains() == [rig.pid]


def test_the_agent_ends_when_it_shall(rig: Rig) -> None:
    rig.restart("exit")
    rig.service.apply(router())
    os.kill(rig.pid, signal.SIGKILL)
    with pytest.raises(ServiceFatalError, match=ID):
        rig.told()


def test_a_new_agent_adopts_what_runs_and_watches_it(rig: Rig) -> None:
    rig.service.apply(router())
    pid = rig.pid
    rig.restart()
    assert rig.service.plan(router()) == []
    rig.service.apply(router())
    assert rig.mains() == [pid]
    os.kill(pid, signal.SIGKILL)
    assert rig.told() == [ID]


def test_what_neutron_l3_agent_started_is_taken_over(rig: Rig) -> None:
    """Its text is laid out differently; the process stays."""
    rig.confs.mkdir(parents=True)
    rig.pids.mkdir(parents=True)
    rig.conf.write_text(f"interface {DEVICE}\n{{\n   AdvSendAdvert on;\n prefix {PREFIX} {{ }};\n}};\n")
    rig.conf.chmod(0o444)
    lab.in_netns(SPACE, "radvd", "-C", rig.conf, "-p", rig.pid_file, "-m", "syslog", "-u", "root")
    pid = rig.pid
    assert rig.service.plan(router()) == ["~ radvd configuration"]
    rig.service.apply(router())
    assert rig.mains() == [pid]
    wait_for(lambda: lab.in_netns("vm", "sysctl", "-n", "net.ipv6.conf.eth0.mtu").strip() == "1400", "our MTU came")
    rig.service.remove(ID)
    assert rig.mains() == []


def test_a_stray_second_one_ends(rig: Rig) -> None:
    rig.service.apply(router())
    stray = rig.pid
    rig.pid_file.unlink()
    rig.restart()
    rig.service.apply(router())
    assert rig.mains() == [rig.pid]
    assert rig.pid != stray


@pytest.mark.parametrize("content", ["", "nonsense", "-5", "99999999999999999999", "{self}"])
def test_a_process_id_file_that_tells_nothing_is_overwritten(rig: Rig, content: str) -> None:
    """Also one that names another program: nobody but radvd is ever signalled."""
    rig.pids.mkdir(parents=True)
    rig.pid_file.write_text(content.format(self=os.getpid()))
    assert rig.service.plan(router()) == ["+ radvd"]
    rig.service.apply(router())
    assert rig.mains() == [rig.pid]


def test_a_namespace_made_anew_gets_a_new_one(rig: Rig) -> None:
    rig.service.apply(router())
    first = rig.pid
    rig.remove_namespace()
    rig.make_namespace()
    assert rig.service.plan(router()) == ["+ radvd"]
    rig.service.apply(router())
    assert rig.mains() == [rig.pid]
    assert rig.pid != first
    wait_for(rig.learned, "the instance has learned")


def test_without_radvd_the_reason_is_clear(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ServiceError, match=r"no router advertisements: radvd is not installed"):
        rig.service.apply(router())


def test_another_user(rig: Rig) -> None:
    rig.service.close()
    rig.service = rig.new_service(user="nobody")
    rig.service.apply(router())
    wait_for(lambda: "\nUid:\t65534\t" in Path(f"/proc/{rig.pid}/status").read_text(), "it is nobody's")
    wait_for(rig.learned, "the instance has learned")
    rig.service.remove(ID)
    assert [pid for pid, words in running("radvd") if str(rig.conf) in words] == []


def test_signals_of_the_worker_thread_are_not_inherited(rig: Rig) -> None:
    """The daemon's worker blocks all of them; a helper that inherited that could not be told to read anew."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        rig.service.apply(router())
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    blocked = next(
        line for line in Path(f"/proc/{rig.pid}/status").read_text().splitlines() if line.startswith("SigBlk")
    )
    assert not int(blocked.split()[1], 16) & (1 << (signal.SIGHUP - 1) | 1 << (signal.SIGTERM - 1))


@pytest.mark.root
def test_directories_belong_to_whom_those_above_belong(rig: Rig, tmp_path: Path) -> None:
    """neutron-l3-agent is no root, and writes there when the host goes back to it."""
    os.chown(tmp_path, 1234, 1235)
    rig.service.apply(router())
    for place in (rig.confs, rig.pids, rig.pids.parent):
        assert (place.stat().st_uid, place.stat().st_gid) == (1234, 1235)


def test_resolvers_reach_the_wire(rig: Rig) -> None:
    with lab.entered("vm"):
        words = ["tcpdump", "-lni", "eth0", "-vv", "icmp6 and ip6[40] == 134"]
        ear = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        rig.service.apply(router(resolvers=("2001:db8::53", "2001:db8::54")))
        assert ear.stdout is not None
        heard = ""
        while "2001:db8::54" not in heard:
            line = ear.stdout.readline()
            assert line, "tcpdump ended"
            heard += line
        assert "2001:db8::53" in heard
    finally:
        ear.kill()
        ear.wait()
    assert json.dumps(rig.service.status())


def test_with_dhcpv6_for_addresses_only_the_route_is_learned(rig: Rig) -> None:
    rig.service.apply(router(RaMode.STATEFUL))
    wait_for(lambda: lab.ip_json("-6", "route", "show", "default", netns="vm"), "a default route")
    assert not rig.learned()
    flags = lab.ip_json("-6", "route", "show", "default", netns="vm")
    assert flags[0]["protocol"] == "ra"


@pytest.mark.parametrize("mode", list(RaMode))
@pytest.mark.parametrize("resolvers", [(), ("2001:db8::53",), ("::1", "::ffff:192.0.2.1", "fe80::1", "2001:db8::53")])
def test_radvd_understands_what_we_write(rig: Rig, mode: RaMode, resolvers: tuple[str, ...]) -> None:
    rig.service.apply(router(mode, resolvers=resolvers))
    assert rig.mains() == [rig.pid]
    assert rig.service.plan(router(mode, resolvers=resolvers)) == []


def test_one_that_refuses_its_configuration_says_why(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dvr_agent.services.radvd.radvd_text", lambda *_: "interface x { RDNSS };\n")
    with pytest.raises(ServiceError, match=r"refuses to start \(exit code 1\): .*radvd.conf:1 error: syntax error"):
        rig.service.apply(router())
    monkeypatch.undo()
    rig.service.apply(router())
    assert rig.mains() == [rig.pid]


def test_a_user_that_is_not_there_is_a_reason(rig: Rig) -> None:
    rig.service.close()
    rig.service = rig.new_service(user="nosuchuser")
    with pytest.raises(ServiceError, match=r"refuses to start .*journalctl -t radvd"):
        rig.service.apply(router())
    assert rig.mains() == []


def test_one_that_was_not_told_of_its_new_configuration_is_told_the_next_time(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.service.apply(router())
    changed = router(mtu=1300)

    def fails(*_: object) -> None:
        raise ServiceError("not now")

    with monkeypatch.context() as patch:
        patch.setattr("dvr_agent.services.children.Children.reload", fails)
        with pytest.raises(ServiceError, match="not now"):
            rig.service.apply(changed)
    rig.restart()  # an agent that was killed in between has no memory of it
    assert rig.service.plan(changed) == ["~ radvd configuration"]
    rig.service.apply(changed)
    assert rig.service.plan(changed) == []
    wait_for(
        lambda: lab.in_netns("vm", "sysctl", "-n", "net.ipv6.conf.eth0.mtu").strip() == "1300", "the new MTU arrived"
    )


def start_by_hand(rig: Rig) -> int:
    """Another radvd with the same files; the process id file names it afterwards."""
    rig.pid_file.unlink()
    lab.in_netns(SPACE, "radvd", "-C", rig.conf, "-p", rig.pid_file, "-m", "syslog")
    wait_for(lambda: children_of(rig.pid), "the second radvd has forked")
    return rig.pid


def test_a_second_one_that_comes_later_is_found_by_a_check(rig: Rig) -> None:
    rig.service.apply(router())
    first = rig.pid
    assert list(rig.service.check()) == []
    start_by_hand(rig)
    assert len(rig.mains()) == 2
    assert list(rig.service.check()) == [ID]
    assert rig.service.plan(router()) == ["- second radvd"]
    rig.service.apply(router())
    assert rig.mains() == [first]
    assert (rig.service.plan(router()), list(rig.service.check())) == ([], [])


def test_a_second_one_that_was_seen_before_it_had_forked_is_ended_with_its_child(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """radvd forks its child with root's rights after its parent has returned; the child would end by itself, late."""
    rig.service.apply(router())
    first, second = rig.pid, start_by_hand(rig)
    [child] = children_of(second)
    os.kill(child, signal.SIGSTOP)
    with monkeypatch.context() as patched:
        patched.setattr(children, "running", lambda name: (one for one in running(name) if one[0] != child))
        assert list(rig.service.check()) == [ID]
    rig.service.apply(router())
    assert rig.mains() == [first]


def test_a_new_agent_ends_all_but_the_one_of_the_process_id_file(rig: Rig) -> None:
    rig.service.apply(router())
    second = start_by_hand(rig)
    rig.restart()
    assert rig.service.plan(router()) == ["- second radvd"]
    assert len(rig.mains()) == 2
    rig.service.apply(router())
    assert rig.mains() == [second]


def test_one_whose_files_are_gone_is_a_left_over_all_the_same(rig: Rig) -> None:
    rig.service.apply(router())
    rig.restart()
    rig.conf.unlink()
    rig.pid_file.unlink()
    assert list(rig.service.routers()) == [ID]
    assert rig.service.plan_remove(ID) == ["- radvd"]
    rig.service.remove(ID)
    assert (rig.mains(), list(rig.service.routers())) == ([], [])


def test_a_marker_without_a_configuration_is_a_left_over(rig: Rig) -> None:
    """The agent was killed between the two, and the router went before the next start."""
    rig.conf.parent.mkdir(parents=True, exist_ok=True)
    marker = rig.conf.with_name(f"{rig.conf.name}.unread")
    marker.touch()
    assert list(rig.service.routers()) == [ID]
    rig.service.remove(ID)
    assert not marker.exists()
    assert list(rig.service.routers()) == []
