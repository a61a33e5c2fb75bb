"""Things an administrator put into our namespaces stay, whatever we do there."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support import lab
from tests.support.packet_documents import Network, RouterDocument
from tests.support.packet_world import PUBLIC, World, fip_namespace

RED = Network("red", ("10.1.0.0/24",))
LATER = Network("later", ("10.4.0.0/24",))
FIP, FIP2 = "203.0.113.51", "203.0.113.52"
LEARNED = {"qr-": "10.1.0.77", "fg-": "203.0.113.77", "qg-": "203.0.113.77"}


def plant(namespace: str) -> Callable[[], dict[str, object]]:
    """Put one of everything into the namespace; returns how to see all of it again."""

    def ip(*words: str) -> None:
        lab.run("ip", "-n", namespace, *words)

    devices = sorted(link["ifname"] for link in lab.ip_json("link", netns=namespace))
    device, neighbour = next((name, LEARNED[name[:3]]) for name in devices if name[:3] in LEARNED)
    ip("link", "add", "adm0", "address", "02:00:00:00:0a:01", "type", "veth", "peer", "name", "adm1")
    ip("link", "set", "adm0", "up")
    ip("link", "set", "adm1", "up")
    ip("addr", "add", "192.0.2.1/24", "dev", "adm0")
    ip("route", "add", "198.51.100.0/24", "via", "192.0.2.9", "dev", "adm0", "proto", "static")
    ip("route", "add", "default", "via", "192.0.2.9", "dev", "adm0", "table", "900")
    ip("rule", "add", "fwmark", "0x77", "lookup", "900", "priority", "40000")
    ip("rule", "add", "from", "192.0.2.0/24", "lookup", "900", "priority", "20000")
    ip("neigh", "add", "192.0.2.9", "lladdr", "02:00:00:00:0a:09", "dev", "adm0", "nud", "permanent")
    ip("neigh", "add", neighbour, "lladdr", "02:00:00:00:0a:77", "dev", device, "nud", "stale")
    rules = "*nat\n:admin - [0:0]\n-A PREROUTING -i adm0 -j admin\n-A admin -d 192.0.2.1/32 -j RETURN\nCOMMIT\n"
    rules += "*filter\n:audit - [0:0]\n-A FORWARD -j audit\n-A audit -p udp -m udp --dport 5353 -j DROP\nCOMMIT\n"
    lab.in_netns(namespace, "iptables-legacy-restore", "--noflush", text=rules)
    chain = "add table ip admin; add chain ip admin c { type filter hook forward priority 0; }"
    lab.in_netns(namespace, "nft", f"{chain}; add rule ip admin c udp dport 5354 drop")

    def look() -> dict[str, object]:
        saved = lab.in_netns(namespace, "iptables-legacy-save").splitlines()
        links = lab.ip_json("addr", "show", "adm0", netns=namespace)
        return {
            "link": [(link["address"], [item["local"] for item in link["addr_info"]][:1]) for link in links],
            "routes": lab.ip_json("route", "show", "dev", "adm0", netns=namespace),
            "table": lab.ip_json("route", "show", "table", "900", netns=namespace),
            "rules": [rule for rule in lab.ip_json("rule", netns=namespace) if rule["priority"] in (20000, 40000)],
            "neighbour": lab.run("ip", "-n", namespace, "neigh", "show", "192.0.2.9"),
            "learned": neighbour in lab.run("ip", "-n", namespace, "neigh", "show", "dev", device),
            "nft": lab.in_netns(namespace, "nft", "list", "table", "ip", "admin"),
            "chains": [line for line in saved if "admin" in line or "audit" in line],
        }

    return look


@pytest.fixture
def router(world: World) -> RouterDocument:
    one, two = world.cloud.vm("one", RED, "10.1.0.11"), world.cloud.vm("two", RED, "10.1.0.12")
    router = world.cloud.router("main", RED).gateway(PUBLIC, "203.0.113.10").floating_ip(FIP, one)
    router.floating_ip(FIP2, two)
    world.apply(router)
    return router


def test_foreign_objects_survive_changes_and_audits(world: World, router: RouterDocument) -> None:
    looks = {name: plant(name) for name in (router.qrouter, router.snat_namespace, fip_namespace())}
    before = {name: look() for name, look in looks.items()}
    assert all(len(seen["chains"]) == 6 and seen["learned"] for seen in before.values()), before  # type: ignore[arg-type]

    def survived() -> None:
        assert {name: look() for name, look in looks.items()} == before

    writes = world.reconciler.kernel.counters.total()
    world.apply(router)
    assert world.reconciler.kernel.counters.total() == writes
    survived()
    router.no_floating_ip(FIP2)
    world.apply(router)
    survived()
    router.networks.append(LATER)
    world.apply(router)
    survived()
    world.reconciler.begin_resync()
    world.apply(router)
    world.reconciler.remove_stale({router.id})
    survived()


def test_foreign_objects_survive_an_agent_that_starts_anew(world: World, router: RouterDocument) -> None:
    looks = {name: plant(name) for name in (router.qrouter, router.snat_namespace, fip_namespace())}
    before = {name: look() for name, look in looks.items()}
    world.start_agent()
    world.apply(router)
    assert world.reconciler.kernel.counters.total() == 0
    assert {name: look() for name, look in looks.items()} == before


def test_foreign_namespace_and_bridge_port_stay_when_everything_of_ours_goes(
    world: World, router: RouterDocument
) -> None:
    world.boot(*world.cloud.vms.values())
    world.remove(router)
    assert {path.name for path in lab.NETNS.iterdir()} == {"internet", "scoped-internet", "one", "two"}
    assert lab.ping("one", "10.1.0.12")
