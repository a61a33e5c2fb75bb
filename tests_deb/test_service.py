"""The agent's services as the package installs them: the tests of the virtual machine (``tests_vm``), and the page.

A tree boots in two seconds where the machine takes half a minute, so CI runs them here, and there with ``--full``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.computer import Done
from tests_deb.container import Container
from tests_deb.packages import Packages
from tests_deb.places import ROOT, booted_tree
from tests_vm.site import FLOATING, ROUTER, Site
from tests_vm.test_agent_service import (
    TestConfiguration,
    TestInstalled,
    TestJournal,
    TestRestart,
    TestRival,
    TestSignals,
    settings,
)

__all__ = [
    "TestConfiguration",
    "TestInstalled",
    "TestJournal",
    "TestRestart",
    "TestRival",
    "TestSignals",
    "settings",
]


@pytest.fixture(scope="module")
def host(packages: Packages) -> Iterator[Container]:
    """A host of this module's own, with the package."""
    with booted_tree("service") as container:
        container.run("apt-get", "install", "-y", container.put(packages.new))
        yield container


@pytest.fixture(scope="module")
def site(host: Container) -> Site:
    """The agent enabled and running, a router, and instances."""
    made = Site(host)
    made.install()
    made.begin()
    return made


PAGE = "127.0.0.2:9700"
PAGE_CONFIG = "/etc/dvr-agent/dvr-agent.conf.d/60-web.conf"


class Browser:
    """Requests to the page, by the token that its unit has left."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.token = site.machine.run("cat", "/run/dvr-agent-web/token").out.strip()

    def ask(self, path: str, *words: str, token: str | None = None) -> tuple[int, str]:
        """Status code and body."""
        header = f"Authorization: Bearer {self.token if token is None else token}"
        curl = ("curl", "-s", "-m", "60", "-w", "\n%{http_code}", "-H", header)
        done: Done = self.site.machine.run(*curl, *words, f"http://{PAGE}{path}")
        body, _newline, code = done.out.rpartition("\n")
        return int(code), body

    def fronts(self) -> list[dict[str, str]]:
        """``/proc/<pid>/status`` of the processes that the unit's main process has started."""
        pid = self.site.pid("dvr-agent-web")
        children = self.site.machine.run("cat", f"/proc/{pid}/task/{pid}/children").out.split()
        texts = [self.site.machine.run("cat", f"/proc/{child}/status").out for child in children]
        return [dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line) for text in texts]


@pytest.fixture(scope="class")
def browser(site: Site) -> Iterator[Browser]:
    """The page is served by its unit while a class's tests run."""
    site.machine.write(PAGE_CONFIG, f"[web]\nlisten = {PAGE}\n")
    site.machine.run("systemctl", "start", "dvr-agent-web")
    yield Browser(site)
    site.machine.run("systemctl", "stop", "dvr-agent-web")
    site.machine.run("rm", PAGE_CONFIG)


def test_the_unit_of_the_page_is_skipped_where_no_address_is_set(site: Site) -> None:
    since = site.now()
    site.machine.run("systemctl", "start", "dvr-agent-web")
    assert site.active("dvr-agent-web") == "inactive"
    assert site.wait_said(since, r"the page is not served: \[web\] listen is not set", "dvr-agent-web")


class TestPage:
    def test_who_has_the_token_gets_the_page_and_its_answers(self, site: Site, browser: Browser) -> None:
        assert f"#token={browser.token}" in site.machine.run("dvrctl", "web", "--url").out
        assert "dvr-agent" in browser.ask("/", token="")[1]
        code, body = browser.ask(f"/api/router?id={ROUTER}")
        assert (code, ROUTER in body) == (200, True)
        code, body = browser.ask(f"/api/why?of={FLOATING}")
        assert (code, FLOATING in body) == (200, True)

    def test_who_has_no_token_gets_nothing(self, browser: Browser) -> None:
        assert [browser.ask("/api/host", token=wrong)[0] for wrong in ("", "x", f"{browser.token}x")] == [401] * 3

    def test_it_reads_only(self, site: Site, browser: Browser) -> None:
        before = writes(site)
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            assert browser.ask(f"/api/router?id={ROUTER}", "-X", method)[0] == 405
        assert writes(site) == before
        site.assert_nothing_to_do()

    def test_who_talks_to_browsers_has_no_right_and_no_network(self, site: Site, browser: Browser) -> None:
        user = site.machine.run("id", "-u", "dvr-web").out.strip()
        (front,) = browser.fronts()
        assert front["Uid"].split() == [user] * 4
        assert {int(front[f"Cap{name}"], 16) for name in ("Inh", "Prm", "Eff", "Amb")} == {0}
        assert (front["NoNewPrivs"], front["Groups"].split()) == ("1", [])
        enter = ("nsenter", f"--net=/proc/{front['Pid']}/ns/net", "ip", "-o", "address")
        assert site.machine.run(*enter).out == ""

    def test_it_goes_on_while_the_agent_is_restarted(self, site: Site, browser: Browser) -> None:
        pid = site.pid("dvr-agent-web")
        site.machine.run("systemctl", "stop", "dvr-agent")
        assert browser.ask(f"/api/router?id={ROUTER}")[0] == 200
        assert browser.ask("/api/history")[0] == 502
        site.machine.run("systemctl", "start", "dvr-agent")
        site.wait_in_sync()
        assert browser.ask("/api/history")[0] == 200
        assert site.pid("dvr-agent-web") == pid

    def test_its_own_restart_keeps_the_token(self, site: Site, browser: Browser) -> None:
        site.machine.run("systemctl", "restart", "dvr-agent-web")
        assert browser.ask("/api/host")[0] == 200


def writes(site: Site) -> Any:
    return site.status()["counters"]["writes"]


EXPOSED = re.findall(
    r"^\| `([a-z-]+)\.service` \| .* \| (\d+\.\d) \|$", (ROOT / "SECURITY.md").read_text(), re.MULTILINE
)
"""Unit and exposure, as SECURITY.md has them."""


@pytest.mark.parametrize(("unit", "exposure"), EXPOSED)
def test_units_are_as_little_exposed_as_documented(site: Site, unit: str, exposure: str) -> None:
    done = site.machine.run("systemd-analyze", "security", "--no-pager", f"{unit}.service")
    assert f"Overall exposure level for {unit}.service: {exposure} " in done.out
