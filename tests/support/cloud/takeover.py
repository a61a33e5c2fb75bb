"""From dvr-agent to neutron-l3-agent and back, on hosts of a test cloud."""

from __future__ import annotations

from tests.support.cloud.host import Host

THEIRS = "neutron-l3-agent"
"""How the reference agent's chains begin."""


def hand_over(pair: list[Host]) -> None:
    """As docs/neutron.md says: stop ours, start theirs, dvrctl handover waits for their rules and removes ours."""
    for host in pair:
        assert host.l3 is not None
        host.l3.stop()
        host.start_neutron_l3()
    for host in pair:
        host.dvrctl("handover", timeout=300)


def take_over(pair: list[Host]) -> None:
    for host in pair:
        assert host.l3 is not None
        host.l3.stop()
        host.start_dvr_agent()
    for host in pair:
        host.wait_in_sync()


def chains(host: Host, variant: str, prefix: str) -> dict[str, list[str]]:
    """Chains with that prefix in each of the host's router namespaces that has some."""
    found = {}
    for name in host.router_namespaces():
        text = host.run("ip", "netns", "exec", name, f"iptables-{variant}-save", check=False)
        found[name] = [line for line in text.splitlines() if line.startswith(f":{prefix}")]
    return {name: lines for name, lines in found.items() if lines}
