"""Bytes of floating IPs: what metrics tell is what went through, and counting changes nothing else."""

from __future__ import annotations

import copy
import socket

from tests.support import lab
from tests.support.ctl import run_ctl
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


POLICY = "ba542381-2ed8-4e67-8279-c3013a072032"
DATAGRAMS, SIZE = 400, 1400
"""Several times what a limit of 80 kbit/s lets pass at once, 64 KiB."""


def test_what_a_limit_drops_is_told_by_metrics_and_why(site: Site, host: lab.Host) -> None:
    with_vms(site, host)
    site.daemon.configure(AGENT={"extensions": "fip_qos"}, metrics={"floating_ips": "true", "floating_ips_interval": 5})
    limited = copy.deepcopy(RECORDED)
    limited["qos_policies"] = [{"id": POLICY, "rules": [{"direction": "ingress", "max_kbps": 80}]}]
    for fip in limited["router"]["_floatingips"]:
        fip["qos_policy_id"] = POLICY
    site.write(limited)
    site.daemon.start()
    wait_for(lambda: site.state() == "in sync")

    def dropped(direction: str) -> float | None:
        name = f"dvr_agent_floating_ip_{direction}_dropped_packets_total"
        return value(site.daemon.fetch("/metrics")[2], name, floating_ip=FLOATING, router_id=ROUTER)

    wait_for(lambda: dropped("receive") == 0)
    assert "limit drops" not in run_ctl(site.daemon.config, "why", FLOATING).stdout
    with lab.entered("internet"), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for _ in range(DATAGRAMS):
            sender.sendto(bytes(SIZE), (FLOATING, 9))
    wait_for(lambda: (dropped("receive") or 0) > 0)
    assert dropped("transmit") == 0
    (line,) = [one for one in run_ctl(site.daemon.config, "why", FLOATING).stdout.splitlines() if "limit drops" in one]
    assert f"limit drops packets: {dropped('receive'):.0f} since the address is limited" in line
