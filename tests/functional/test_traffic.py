"""Bytes of floating IPs: what metrics tell is what went through, and counting changes nothing else."""

from __future__ import annotations

from tests.support import lab
from tests.support.daemon_site import FLOATING, QROUTER, RECORDED, ROUTER, Site, with_vms
from tests.support.filter_tools import delete_rule, rule_lines
from tests.support.prometheus import value
from tests.support.waiting import wait_for

PINGS, DATA = 7, 300
PACKET = DATA + 28
"""ICMP and IP header included."""


def bytes_of(site: Site, direction: str) -> float | None:
    text = site.daemon.fetch("/metrics")[2]
    return value(text, f"dvr_agent_floating_ip_{direction}_bytes_total", floating_ip=FLOATING, router_id=ROUTER)


def ping() -> None:
    lab.in_netns("internet", "ping", "-q", "-c", str(PINGS), "-i", "0.05", "-s", str(DATA), "-W", "20", FLOATING)


def counting_rules() -> list[str]:
    return [line for line in rule_lines(QROUTER)[0] if "counts bytes" in line]


def test_bytes_of_a_floating_ip_are_those_that_went_through(site: Site, host: lab.Host) -> None:
    with_vms(site, host)
    site.daemon.configure(metrics={"floating_ips": "true", "floating_ips_interval": 5})
    site.write(RECORDED)
    site.daemon.start()
    wait_for(lambda: site.state() == "in sync")
    wait_for(lambda: bytes_of(site, "receive") == 0)
    ping()
    wait_for(lambda: bytes_of(site, "receive") == PINGS * PACKET)
    assert bytes_of(site, "transmit") == PINGS * PACKET
    assert len(counting_rules()) == 2
    # A repair of the same table keeps what was counted.
    delete_rule(QROUTER, "mangle", "PREROUTING")
    wait_for(lambda: site.daemon.status()["counters"]["drift_repaired"] == 1)
    ping()
    wait_for(lambda: bytes_of(site, "receive") == 2 * PINGS * PACKET)
    # Without the option nothing of it stays, and nothing is read.
    site.daemon.stop()
    site.daemon.configure(metrics={"floating_ips": "false"})
    site.daemon.start()
    wait_for(lambda: site.state() == "in sync")
    assert counting_rules() == []
    assert bytes_of(site, "receive") is None
    ping()
