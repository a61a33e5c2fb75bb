"""Conntrack helpers made, changed and removed by the API."""

from __future__ import annotations

from tests.support.cloud.host import Host
from tests.support.cloud.site import Site
from tests.support.waiting import wait_for


def helpers(host: Host, namespace: str) -> set[tuple[str, str, str]]:
    """Protocol, port and helper of the packet filter's raw rules, in either backend."""
    found = set()
    for variant in ("legacy", "nft"):
        words = ["ip", "netns", "exec", namespace, f"iptables-{variant}-save", "-t", "raw"]
        for line in host.run(*words, check=False).splitlines():
            rule = line.split()
            if "--helper" in rule:
                protocol, port, helper = (rule[rule.index(name) + 1] for name in ("-p", "--dport", "--helper"))
                found.add((protocol, port, helper))
    return found


def test_a_helper_is_made_changed_and_removed(site: Site, hosts: list[Host]) -> None:
    (two,) = site.on(hosts[1])
    two.reaches(site.outside)

    def are(*wanted: tuple[str, str, str]) -> None:
        wait_for(lambda: helpers(hosts[0], site.central) == set(wanted), f"helpers are {wanted}")

    collection = f"routers/{site.router}/conntrack_helpers"
    ftp = site.api.conntrack_helper(site.router, "tcp", 21, "ftp")
    are(("tcp", "21", "ftp"))
    tftp = site.api.conntrack_helper(site.router, "udp", 69, "tftp")
    are(("tcp", "21", "ftp"), ("udp", "69", "tftp"))
    site.api.update(collection, ftp["id"], port=2121)
    are(("tcp", "2121", "ftp"), ("udp", "69", "tftp"))
    for one in (ftp, tftp):
        site.api.delete(collection, one["id"])
    are()
    two.reaches(site.outside)
