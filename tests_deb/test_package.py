"""The life of the package on one host, in the order of the tests: each begins where the one before has ended."""

from __future__ import annotations

import pytest

from dvr_agent import __version__
from tests_deb.container import Container
from tests_deb.packages import Packages
from tests_vm.site import CONFIG, FLOATING, NAMESPACES, ROUTER, Site

UNITS = ("dvr-agent", "dvr-metadata-proxy", "dvr-vrrp")
NEW_UNITS = (*UNITS, "dvr-agent-web")
CONF = "/etc/dvr-agent/dvr-agent.conf"
MARK = "# kept by the operator\n"
L3_AGENT = "[Service]\nExecStart=/bin/sleep infinity\n"


def install(host: Container, package: object) -> None:
    """Install a package as an operator does, without the network; dpkg asks no question about the configuration."""
    keep = ("-o", "Dpkg::Options::=--force-confold")
    host.run("apt-get", "install", "-y", "--allow-downgrades", *keep, str(package))


def version(site: Site) -> str:
    """Return what the running daemon says that it is."""
    return str(site.status()["version"])


@pytest.fixture(scope="session")
def old(host: Container, packages: Packages) -> str:
    return host.put(packages.old)


@pytest.fixture(scope="session")
def new(host: Container, packages: Packages) -> str:
    return host.put(packages.new)


@pytest.fixture
def pings(site: Site) -> list[str]:
    """Pings east–west and to the floating IP, 50 a second each, which go on until :func:`lost` is asked."""
    ways = {"blue": site.vms["green"].address, "internet": FLOATING}
    return [site.start_pinging(name, target, interval=0.02) for name, target in ways.items()]


def lost(site: Site, pings: list[str]) -> dict[str, int]:
    """Return how many pings were not answered."""
    counts = {name: site.stop_pinging(name) for name in pings}
    assert all(sent >= 10 for sent, _ in counts.values())
    return {name: missing for name, (_, missing) in counts.items()}


class TestInstall:
    def test_neutron_l3_agent_goes_on_and_nothing_is_started(self, site: Site, host: Container, old: str) -> None:
        host.write("/etc/systemd/system/neutron-l3-agent.service", L3_AGENT)
        host.run("systemctl", "start", "neutron-l3-agent")
        pid = site.pid("neutron-l3-agent")
        install(host, old)
        assert (site.active("neutron-l3-agent"), site.pid("neutron-l3-agent")) == ("active", pid)
        for unit in UNITS:
            assert (site.active(unit), site.property("UnitFileState", unit)) == ("inactive", "disabled")

    def test_configuration_is_for_root_only(self, host: Container) -> None:
        assert host.run("stat", "-c", "%a %U %G", CONF).out.split() == ["640", "root", "root"]


class TestUpgrade:
    def test_the_older_version_takes_the_place_of_neutron_l3_agent(self, site: Site) -> None:
        site.install()
        site.begin()
        site.assert_paths()
        assert site.active("neutron-l3-agent") == "inactive"

    def test_what_ran_is_restarted_and_no_packet_is_lost(
        self, site: Site, host: Container, pings: list[str], packages: Packages, new: str
    ) -> None:
        before = version(site)
        host.run("sh", "-c", f"cat >>{CONF}", text=MARK)
        pids, since = {unit: site.pid(unit) for unit in UNITS}, site.now()
        install(host, new)
        site.wait_in_sync()
        assert lost(site, pings) == {"blue": 0, "internet": 0}
        assert (before, version(site)) == (packages.old_version, __version__)
        for unit in ("dvr-agent", "dvr-metadata-proxy"):
            assert site.pid(unit) not in (0, pids[unit])
        for unit in ("dvr-vrrp", "dvr-agent-web"):
            assert (site.active(unit), site.property("UnitFileState", unit)) == ("inactive", "disabled")
        assert [line for line in site.messages(since=since) if ": added: " in line or ": removed: " in line] == []
        site.assert_nothing_to_do()

    def test_configuration_of_the_operator_is_kept(self, host: Container) -> None:
        assert host.run("cat", CONF).out.endswith(MARK)

    def test_units_stay_enabled(self, site: Site) -> None:
        assert site.property("UnitFileState") == "enabled"


class TestContents:
    """What the new version has brought."""

    def test_users_of_the_helpers_are_there(self, host: Container) -> None:
        for user in ("dvr-metadata", "dvr-vrrp", "dvr-web"):
            assert host.run("getent", "passwd", user).out.split(":")[6].strip() == "/usr/sbin/nologin"

    @pytest.mark.parametrize("program", ["dvr-agent", "dvrctl", "dvr-metadata-proxy", "dvr-vrrp"])
    def test_programs_run(self, host: Container, program: str) -> None:
        assert __version__ in host.run(f"/usr/bin/{program}", "--version").out

    def test_units_and_logrotate_are_right(self, site: Site, host: Container) -> None:
        paths = [site.property("FragmentPath", unit) for unit in NEW_UNITS]
        done = host.run("systemd-analyze", "verify", "--man=no", *paths)
        assert (done.out, done.err) == ("", "")
        host.run("logrotate", "--debug", "/etc/logrotate.d/dvr-agent")

    @pytest.mark.parametrize(
        "path",
        [
            *("man/man1/dvrctl.1.gz", "man/man5/dvr-agent.conf.5.gz", "man/man8/dvr-agent.8.gz"),
            *("bash-completion/completions/dvrctl", "zsh/vendor-completions/_dvrctl"),
            "fish/vendor_completions.d/dvrctl.fish",
            *("dvr-agent/prometheus/dvr-agent.rules.yaml", "dvr-agent/grafana/dvr-agent.json"),
        ],
    )
    def test_manual_pages_completion_and_alerts_are_there(self, host: Container, path: str) -> None:
        host.run("test", "-s", f"/usr/share/{path}")

    def test_schemas_come_with_the_program(self, host: Container) -> None:
        assert '"$schema"' in host.run("dvrctl", "schema", "status").out

    def test_options_are_in_the_sample_of_oslo_config(self, host: Container) -> None:
        assert "#audit_interval" in host.run("oslo-config-generator", "--namespace", "dvr_agent").out


class TestDowngrade:
    def test_what_did_not_run_is_not_started(self, site: Site, host: Container, old: str) -> None:
        host.run("systemctl", "start", "neutron-l3-agent")
        host.run("systemctl", "stop", "dvr-metadata-proxy")
        install(host, old)
        assert site.active("neutron-l3-agent") == "active"
        assert {site.active(unit) for unit in UNITS} == {"inactive"}
        host.run("systemctl", "start", "dvr-agent")


class TestRemove:
    def test_routers_go_on(self, site: Site, host: Container, pings: list[str]) -> None:
        host.run("apt-get", "remove", "-y", "dvr-agent")
        assert {site.active(unit) for unit in UNITS} == {"inactive"}
        assert host.run("sh", "-c", "command -v dvrctl", check=False).code != 0
        assert site.namespaces() == NAMESPACES
        assert lost(site, pings) == {"blue": 0, "internet": 0}

    def test_purge_leaves_routers_and_documents(self, site: Site, host: Container) -> None:
        host.run("apt-get", "purge", "-y", "dvr-agent")
        assert host.run("ls", CONF, "/var/log/dvr-agent", check=False).out == ""
        assert host.run("ls", "/etc/dvr-agent/routers").out.split() == ["demo.json"]
        assert site.namespaces() == NAMESPACES
        site.assert_paths()

    def test_installed_again_it_finds_its_routers(self, site: Site, host: Container, new: str) -> None:
        install(host, new)
        since = site.now()
        host.run("systemctl", "enable", "--now", "dvr-agent")
        site.wait_in_sync()
        assert [line for line in site.messages(since=since) if f"{ROUTER}" in line and ": added: " in line] == []

    def test_routers_go_where_that_is_asked_for(self, site: Site, host: Container) -> None:
        host.run("env", "DVR_AGENT_CLEANUP=yes", "apt-get", "purge", "-y", "dvr-agent")
        assert site.namespaces() == set()
        assert host.run("ls", CONFIG).out.strip() == CONFIG, "a file of the operator"
