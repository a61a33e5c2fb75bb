"""dvr-agent and dvr-metadata-proxy as services of a real systemd."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests_vm.site import CONFIG, DOCUMENTS, FLOATING, NAMESPACES, ROUTER, SETTINGS, Site

UNITS = ("dvr-agent", "dvr-metadata-proxy")
BAD = f"{DOCUMENTS}/bad.json"
CHANGES = r": (added|changed|removed|drift repaired): "


@pytest.fixture
def settings(site: Site) -> Iterator[Site]:
    """The site, whose configuration the test may change."""
    yield site
    site.machine.write(CONFIG, SETTINGS)
    site.machine.run("systemctl", "reset-failed", *UNITS, check=False)
    site.machine.run("systemctl", "restart", "dvr-agent")
    site.wait_in_sync()


class TestInstalled:
    def test_make_install_and_enable_leave_both_units_active(self, site: Site) -> None:
        for unit in UNITS:
            site.machine.wait_until(f"{unit} is active", lambda unit=unit: site.active(unit) == "active")
        assert site.property("UnitFileState") == "enabled"

    @pytest.mark.parametrize("unit", UNITS)
    def test_no_unit_had_to_be_started_twice(self, site: Site, unit: str) -> None:
        assert site.property("NRestarts", unit) == "0", site.messages(unit=unit)[-20:]

    def test_routers_are_in_place_and_forward(self, site: Site) -> None:
        assert site.namespaces() == NAMESPACES
        site.assert_nothing_to_do()
        site.assert_paths()

    def test_instances_get_an_answer_to_their_metadata_requests(self, site: Site) -> None:
        words = ("curl", "-s", "-m", "60", "http://169.254.169.254/")
        assert site.machine.run("ip", "netns", "exec", "blue", *words).out == site.vms["blue"].address

    def test_systemd_has_no_complaint_about_the_units(self, site: Site) -> None:
        paths = [site.property("FragmentPath", unit) for unit in UNITS]
        done = site.machine.run("systemd-analyze", "verify", "--man=no", *paths)
        assert (done.out, done.err) == ("", "")


class TestRestart:
    def test_packets_go_on_and_nothing_is_written(self, site: Site) -> None:
        green = site.vms["green"].address
        site.machine.run("dvrctl", "sync")  # what has been read is trusted, and not read again
        site.wait_in_sync()
        pings = [site.start_pinging("blue", green), site.start_pinging("internet", FLOATING)]
        since, pid = site.now(), site.pid()
        site.machine.run("systemctl", "restart", "dvr-agent")
        site.wait_in_sync()
        assert site.pid() != pid
        lost = {name: site.stop_pinging(name) for name in pings}
        assert all(sent >= 10 for sent, _ in lost.values())
        assert {name: missing for name, (_, missing) in lost.items()} == dict.fromkeys(pings, 0)
        said = site.messages(since=since)
        assert [one for one in said if re.search(CHANGES, one)] == []
        assert any("1 router not read" in one for one in said), said
        assert site.property("NFileDescriptorStore") == "0"

    def test_stopped_it_leaves_routers_as_they_are_and_drift_is_repaired_by_the_next_start(self, site: Site) -> None:
        site.machine.run("systemctl", "stop", "dvr-agent")
        assert site.active() == "inactive"
        site.assert_paths()
        site.machine.run("ip", "netns", "exec", f"qrouter-{ROUTER}", "ip", "rule", "flush")
        site.machine.run("systemctl", "start", "dvr-agent")
        site.wait_in_sync()
        site.assert_paths()

    def test_killed_it_comes_back(self, site: Site) -> None:
        pid = site.pid()
        site.machine.run("kill", "-KILL", pid)
        site.machine.wait_until(
            "another one is active", lambda: site.pid() not in (0, pid) and site.active() == "active"
        )
        site.wait_in_sync()

    @pytest.mark.parametrize("unit", UNITS)
    def test_one_that_hangs_is_replaced_by_the_watchdog(self, site: Site, unit: str) -> None:
        dropin = f"/run/systemd/system/{unit}.service.d/test.conf"
        site.machine.write(dropin, "[Service]\nWatchdogSec=20\nTimeoutStopSec=5\nTimeoutAbortSec=5\n")
        site.machine.run("systemctl", "daemon-reload")
        site.machine.run("systemctl", "restart", unit)
        try:
            pid = site.pid(unit)
            site.machine.run("kill", "-STOP", pid)
            site.machine.wait_until(
                "another one is active", lambda: site.pid(unit) not in (0, pid) and site.active(unit) == "active"
            )
            assert int(site.property("NRestarts", unit)) >= 1
            site.wait_in_sync()
        finally:
            site.machine.run("rm", dropin)
            site.machine.run("systemctl", "daemon-reload")
            site.machine.run("systemctl", "restart", unit)
            site.wait_in_sync()


class TestHostParameters:
    def test_new_namespaces_forward_though_new_devices_of_the_host_do_not(self, site: Site) -> None:
        """A new namespace takes both parameters over from the host, and ip_forward, which is 1 then, sets nothing."""
        site.machine.run("systemctl", "stop", "dvr-agent")
        for name in sorted(NAMESPACES):
            site.machine.run("ip", "netns", "delete", name)
        site.machine.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        site.machine.run("sysctl", "-qw", "net.ipv4.conf.default.forwarding=0")
        try:
            site.machine.run("ip", "netns", "add", "taken-over")
            words = ("sysctl", "-n", "net.ipv4.ip_forward", "net.ipv4.conf.default.forwarding")
            assert site.machine.run("ip", "netns", "exec", "taken-over", *words).out.split() == ["1", "0"]
            site.machine.run("ip", "netns", "delete", "taken-over")
            site.machine.run("systemctl", "start", "dvr-agent")
            site.wait_in_sync()
            site.assert_paths()
        finally:
            site.machine.run("sysctl", "-qw", "net.ipv4.ip_forward=0")
        site.assert_nothing_to_do()


class TestSignals:
    def test_reload_reads_the_log_level_and_keeps_the_process(self, settings: Site) -> None:
        pid, since = settings.pid(), settings.now()
        settings.machine.write(CONFIG, SETTINGS.replace("[DEFAULT]", "[DEFAULT]\ndebug = true"))
        settings.machine.run("systemctl", "reload", "dvr-agent")

        def debug_lines() -> bool:
            settings.status()  # each request is a line at DEBUG
            return bool(settings.journal("-p", "debug..debug", since=since))

        settings.machine.wait_until("it logs debug lines", debug_lines)
        assert settings.pid() == pid

    def test_reload_of_a_mistake_changes_nothing_and_says_where_it_is(self, settings: Site) -> None:
        pid, since = settings.pid(), settings.now()
        settings.machine.write(CONFIG, SETTINGS.replace("[DEFAULT]", "[DEFAULT]\ndebug = yess"))
        settings.machine.run("systemctl", "reload", "dvr-agent")
        said = settings.wait_said(since, "yess")
        assert any("debug" in line and CONFIG in line for line in said), said
        assert (settings.pid(), settings.active()) == (pid, "active")
        settings.wait_in_sync()

    @pytest.mark.parametrize("unit", UNITS)
    @pytest.mark.parametrize("signal", ["USR1", "USR2"])
    def test_user_signals_do_not_end_it(self, site: Site, unit: str, signal: str) -> None:
        pid = site.pid(unit)
        site.machine.run("kill", f"-{signal}", pid)
        site.wait_in_sync()
        assert (site.pid(unit), site.active(unit)) == (pid, "active")

    def test_usr2_writes_a_guru_meditation_report(self, site: Site) -> None:
        since = site.now()
        site.machine.run("kill", "-USR2", site.pid())
        site.wait_said(since, "Guru Meditation")


class TestJournal:
    def test_errors_are_errors_and_the_rest_is_not(self, site: Site) -> None:
        since = site.now()
        site.machine.write(BAD, '{"router": {"id": 7}}')
        try:
            site.wait_said(since, re.escape(Path(BAD).name))
            errors = site.messages("-p", "err", since=since)
        finally:
            site.machine.run("rm", BAD)
        site.wait_in_sync()
        assert any(Path(BAD).name in line for line in errors), "journalctl -p err does not show it"
        assert any(ROUTER in line for line in site.messages("-p", "info..info")), "no line has the priority info"

    def test_a_usual_life_has_no_error_in_it(self, site: Site) -> None:
        since = site.now()
        site.machine.run("systemctl", "restart", *UNITS)
        site.wait_in_sync()
        for unit in UNITS:
            assert site.messages("-p", "err", since=since, unit=unit) == []


class TestConfiguration:
    def test_a_wrong_one_makes_it_failed_for_good_with_the_reason(self, settings: Site) -> None:
        """systemd does not try again, since that would not help."""
        since = settings.now()
        settings.machine.write(CONFIG, SETTINGS.replace("agent_mode = dvr_snat", "agent_mode = dvr_snot"))
        assert settings.machine.run("systemctl", "restart", "dvr-agent", check=False).code != 0
        settings.machine.wait_until("it has failed", lambda: settings.active() == "failed")
        assert (settings.property("ExecMainStatus"), settings.property("SubState")) == ("78", "failed")
        said = " ".join(settings.messages(since=since))
        assert all(word in said for word in ("dvr_snot", "agent_mode", CONFIG)), said
        assert settings.machine.run("ip", "netns", "list").out.count(ROUTER) == 2


class TestRival:
    def test_starting_one_agent_stops_the_other_and_routers_stay(self, site: Site) -> None:
        path = "/run/systemd/system/neutron-l3-agent.service"
        site.machine.write(path, "[Service]\nExecStart=/bin/sleep infinity\n")
        site.machine.run("systemctl", "daemon-reload")
        try:
            site.machine.run("systemctl", "start", "neutron-l3-agent")
            assert (site.active(), site.active("neutron-l3-agent")) == ("inactive", "active")
            site.assert_paths()
            site.machine.run("systemctl", "start", "dvr-agent")
            assert (site.active(), site.active("neutron-l3-agent")) == ("active", "inactive")
        finally:
            site.machine.run("systemctl", "start", "dvr-agent")
            site.machine.run("rm", path)
            site.machine.run("systemctl", "daemon-reload")
        site.wait_in_sync()
        site.assert_paths()
