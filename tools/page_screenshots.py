#!/usr/bin/env python3
"""Make the screenshots of docs/web.md: a real daemon with the demo's network and some more routers, a real Chromium.

As root: tools/page_screenshots.py [DIRECTORY], in private namespaces; the default is docs/images.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.sandbox import enter_sandbox, fresh_root  # noqa: E402
from dvr_agent.cli.demo import documents as docs  # noqa: E402
from dvr_agent.cli.demo.agent import Agent  # noqa: E402
from dvr_agent.cli.demo.network import Pinger, build_surroundings, run  # noqa: E402
from tests.support.chromium import Chromium  # noqa: E402
from tests.support.page import Page  # noqa: E402

NAMES = (
    "billing",
    "web-frontend",
    "ci-runners",
    "staging",
    "observability",
    "research",
    "payments",
    "mail",
    "vpn",
    "lab",
)
ROUTERS = 48
SICK = 17
ROUTER = docs.object_id("router")
QROUTER = f"qrouter-{ROUTER}"


def main() -> None:
    """Make all pictures."""
    enter_sandbox("tools.page_screenshots", sys.argv[1:])
    fresh_root()
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "images"
    target.mkdir(exist_ok=True)
    build_surroundings()
    with tempfile.TemporaryDirectory(prefix="dvr-agent-page-") as directory:
        base = Path(directory)
        agent = Agent(base)
        agent.place(docs.document())
        for number, document in more_routers():
            (agent.routers / f"{number}.json").write_text(json.dumps(document))
        start(agent)
        pinger = Pinger("internet", docs.FIP_ONE)
        page = Page(agent.config, base)
        browser = Chromium(base / "chromium", 1180, 660)
        try:
            take(browser, page, agent, target)
        finally:
            browser.close()
            page.end()
            pinger.stop()
            agent.stop()


def start(agent: Agent) -> None:
    """Start the daemon; one document is bad, so that it never is in sync."""
    agent.wait, wait = (lambda *_args, **_more: None), agent.wait  # type: ignore[method-assign]
    agent.start()
    agent.wait = wait  # type: ignore[method-assign]
    wait(lambda status: status["state"] == "degraded" and not status["queue_depth"], "ready")


def take(browser: Chromium, page: Page, agent: Agent, target: Path) -> None:
    browser.open(page.url)
    browser.shows("#found", "routers")
    run("ip", "-n", QROUTER, "route", "flush", "table", "16")  # drift
    browser.shows("#events .kind", "drift")
    agent.place(docs.document(routes=[{"destination": "172.16.0.0/16", "nexthop": docs.VMS["vm2"][1]}]))
    browser.shows("#events", "172.16.0.0/16")
    browser.wait("document.querySelectorAll('.cell').length > 40")
    shoot(browser, target / "web-host.png")
    browser.run(f"location.hash = '#/router/{ROUTER}'")
    browser.shows("svg .counters", "bit/s")
    browser.shows(".history", "added")
    browser.run("document.querySelector('#events details')?.setAttribute('open', '')")
    shoot(browser, target / "web-router.png")
    run("ip", "link", "set", docs.network_bridge("blue"), "down")
    browser.prefer("dark")
    browser.click(".fips button")
    browser.wait("document.querySelector('#why .sentence')")
    shoot(browser, target / "web-why.png")
    run("ip", "link", "set", docs.network_bridge("blue"), "up")
    browser.click("#why button")
    browser.resize(390, 720)
    browser.run("scrollTo(0, 0)")
    browser.wait("document.getElementById('list').clientHeight < 200")
    shoot(browser, target / "web-narrow.png")


def shoot(browser: Chromium, path: Path) -> None:
    browser.run(
        "document.fonts.ready.then(() => new Promise((done) =>"
        " requestAnimationFrame(() => requestAnimationFrame(done))))"
    )
    path.write_bytes(browser.screenshot())
    print(f"{path}: {path.stat().st_size / 1e3:.0f} kB")


def more_routers() -> Iterator[tuple[int, Any]]:
    """Yield (number, document) of routers like the demo's, with ids and addresses of their own; one cannot be used."""
    text = json.dumps(docs.document())
    shared = {docs.object_id(name) for name in ("network-external", "subnet-external", "port-agent-gateway")}
    ids = set(re.findall(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", text)) - shared
    for number in range(1, ROUTERS + 1):
        one = text
        for old in ids:
            one = one.replace(old, str(uuid.uuid5(uuid.UUID(old), str(number))))
        for old, new in (("10.10.1.", f"10.20.{number}."), ("10.10.2.", f"10.30.{number}."),
                         ('"203.0.113.20"', f'"203.0.113.{number + 105}"'),
                         ('"203.0.113.101"', f'"203.0.113.{number + 155}"'),
                         ('"203.0.113.102"', f'"203.0.113.{number + 32}"')):  # fmt: skip
            one = one.replace(old, new)
        document = json.loads(one)
        router = document["router"]
        router["name"] = f"{NAMES[number % len(NAMES)]}-{number:02d}"
        for place, port in enumerate([router["gw_port"], *router["_interfaces"], *router["_snat_router_interfaces"]]):
            port["mac_address"] = f"fa:16:3e:77:{number:02x}:{place:02x}"
        if number == SICK:
            router["_floatingips"][0]["floating_ip_address"] = docs.EXTERNAL_GATEWAY  # the gateway's own address
        yield number, document


if __name__ == "__main__":
    if os.geteuid() != 0:
        sys.exit("page_screenshots: needs root")
    main()
