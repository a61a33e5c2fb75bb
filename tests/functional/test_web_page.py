"""The page in a real headless Chromium, about a real daemon on the real kernel.

One browser for a whole story, since each start costs a second of processor: CI runs ``test_the_page`` and
``test_hostile_names_are_text``, ``--full`` runs all.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import lab
from tests.support.chromium import Chromium
from tests.support.daemon_site import FLOATING, QROUTER, RECORDED, ROUTER, VM_IP, Site, neighbour_router, with_vms
from tests.support.page import Page
from tests.support.waiting import wait_for

HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "<script>alert(2)</script>",
    '"><svg onload=alert(3)>',
    "javascript:alert(4)",
    "</title><style>*{display:none}</style>",
    "{{7*7}}${alert(5)}`'\\u202e",
)
OTHER = neighbour_router(1)
OTHER_ID = OTHER["router"]["id"]
ENTER, DOWN = 13, 40


@pytest.fixture
def page(site: Site, tmp_path: Path) -> Iterator[Page]:
    """The page of the site's daemon, which has one router, of whose VMs one pings the other."""
    site.write(named(RECORDED, "blue"))
    site.daemon.start()
    served = Page(site.daemon.config, tmp_path)
    yield served
    served.end()


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Chromium]:
    """A browser without a page yet."""
    made = Chromium(tmp_path / "chromium")
    yield made
    made.close()


def named(document: Any, name: str) -> Any:
    changed = copy.deepcopy(document)
    changed["router"]["name"] = name
    return changed


def complaints(browser: Chromium) -> list[str]:
    """What the browser complains of, without answers that tell of functions this version lacks."""
    return [one for one in browser.complaints() if "501 (Not Implemented)" not in one]


def test_the_page(site: Site, host: lab.Host, page: Page, browser: Chromium) -> None:
    with_vms(site, host)
    browser.open(page.url)
    browser.shows("#list .row", "blue")
    assert browser.run("location.hash") == "#/"  # the token is no longer in the address bar
    assert page.token not in browser.run("document.cookie + document.documentElement.outerHTML")

    # A document more: without a reload it is in the list, and in the events.
    site.write(named(OTHER, "green"), "two")
    browser.shows("#list .row", "green")
    browser.shows("#events", "green")

    # By name, floating IP and address of an instance.
    for text, found in (("gree", "green"), (FLOATING, "blue"), (VM_IP, "blue"), (ROUTER[:8], "blue")):
        browser.press("Escape", 27)  # out of the field, which is empty again
        browser.press("/")
        browser.type(text)
        browser.wait("document.querySelectorAll('.row').length === 1", f"{text} finds one")
        browser.shows(".row", found)
    browser.press("Enter", ENTER)

    # The router: its picture is the kernel's, with counters.
    browser.shows(".head h1", "blue")
    if "draws no topology" not in wait_for(lambda: browser.text(".content > .picture"), "the topology"):
        browser.wait("document.querySelector('svg .counters')?.textContent.includes('↓')", "counters")
        devices = {link["ifname"] for link in lab.ip_json("link", netns=QROUTER)} - {"lo"}
        assert devices <= set(browser.text("svg .device").splitlines())
    browser.shows(".fips", FLOATING)

    # Drift is shown; it is repaired, so that only its event stays.
    before = browser.run("document.querySelectorAll('#events li').length")
    lab.run("ip", "-n", QROUTER, "rule", "del", "priority", lab.ip_json("rule", netns=QROUTER)[1]["priority"])
    wait_for(lambda: site.daemon.status()["counters"]["drift_repaired"] > 0)
    if "no /history" not in browser.text(".history"):
        browser.wait(f"document.querySelectorAll('#events li').length > {before}", "an event of the drift")

    # Why: an answer, or what this version says for want of one.
    browser.click(".fips button")
    browser.wait("document.querySelector('#why[open] .sentence') || document.querySelector('#why[open] .quiet')", "why")
    browser.click("#why button")

    # A document that cannot be used: the router needs attention, and comes first.
    broken = named(OTHER, "green")
    broken["router"]["gw_port"]["mac_address"] = "none"
    site.write(broken, "two")
    browser.run(
        "(() => { const f = document.getElementById('search'); f.value = ''; f.dispatchEvent(new Event('input')); })()"
    )
    browser.shows(".row .detail", "mac_address")
    browser.shows("#host-state", "degraded")
    assert complaints(browser) == []
    assert browser.dialogs() == []


def test_hostile_names_are_text(site: Site, page: Page, browser: Chromium) -> None:
    for number, name in enumerate(HOSTILE):
        site.write(named(neighbour_router(number + 1), name), f"hostile-{number}")
    browser.open(page.url)
    for name in HOSTILE:
        browser.shows(".row .name", name)
    browser.run(f"location.hash = '#/router/{OTHER_ID}'")
    browser.shows(".head h1", HOSTILE[0])
    browser.wait("document.querySelector('.kernel details')", "the kernel was read")
    foreign = "img, iframe, style, object, embed, body script, svg svg, [onerror], [onload]"
    assert browser.run(f"document.querySelectorAll('{foreign}').length") == 0
    assert browser.run("[...document.querySelectorAll('a')].every((one) => one.protocol === 'http:')")
    assert browser.run(
        "[...document.querySelectorAll('*')].every((one) => one.getAttributeNames().every((name) => !/^on/.test(name)))"
    )
    assert browser.dialogs() == []
    assert complaints(browser) == []


@pytest.mark.full
def test_an_address_bar_cannot_add_anything(page: Page, browser: Chromium) -> None:
    browser.open(page.url)
    browser.shows("#list .row", "blue")
    for fragment in (
        "#/router/<img src=x onerror=alert(1)>",
        "#<script>alert(1)</script>",
        "#token=<b>",
        f"#/router/{36 * 'f'}",
    ):
        browser.run(f"location.hash = {json.dumps(fragment)}")
        assert browser.run("document.querySelectorAll('img, body script').length") == 0
    assert browser.dialogs() == []


@pytest.mark.full
def test_without_a_token(page: Page, browser: Chromium) -> None:
    browser.open(page.url.partition("#")[0])
    browser.shows("#login[open]", "dvrctl web --url")
    browser.type(page.url)  # the whole address will do
    browser.press("Enter", ENTER)
    browser.shows("#list .row", "blue")
    browser.open("about:blank")
    browser.open(page.url.partition("#")[0] + "#token=wrong")
    browser.shows("#login[open]", "token is missing or wrong")


@pytest.mark.full
def test_outage_and_restart(site: Site, page: Page, browser: Chromium) -> None:
    browser.open(page.url)
    browser.shows("#list .row", "blue")
    site.daemon.stop()
    browser.shows("#outage:not([hidden])", "is not reachable")
    browser.shows("#list .row", "blue")
    site.daemon.start()
    browser.wait("document.getElementById('outage').hidden", "the outage is over")
    browser.shows("#events", "started again")


@pytest.mark.full
def test_keys_alone(page: Page, site: Site, browser: Chromium) -> None:
    site.write(named(OTHER, "green"), "two")
    browser.open(page.url)
    browser.wait("document.querySelectorAll('.row .dot.good').length === 2", "both are in sync: the order is final")
    browser.press("l")
    browser.press("ArrowDown", DOWN)
    browser.press("ArrowDown", DOWN)
    browser.press("Enter", ENTER)
    browser.shows(".head h1", "green")
    browser.press("w")
    browser.wait("document.querySelector('#why[open]')")
    browser.press("Escape", 27)
    browser.wait("!document.querySelector('#why[open]')")
    browser.press("h")
    browser.shows(".content h1", "This host")
    browser.press("?")
    browser.shows("#keys[open]", "search")


@pytest.mark.full
@pytest.mark.parametrize(("width", "height"), [(1280, 800), (390, 800), (1920, 1080)])
def test_nothing_is_wider_than_the_window(page: Page, browser: Chromium, width: int, height: int) -> None:
    browser.resize(width, height)
    browser.open(page.url)
    browser.shows("#list .row", "blue")
    for where in ("#/", f"#/router/{ROUTER}"):
        browser.run(f"location.hash = '{where}'")
        browser.wait("document.querySelector('svg')", "a picture")
        assert browser.run("document.documentElement.scrollWidth") <= width
