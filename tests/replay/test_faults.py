"""The whole daemon while neutron-server or the message bus misbehave: lost, late, repeated, half and wrong messages."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import lab
from tests.support.rabbit import Cable, Rabbit
from tests.support.replay_server import NeutronServer
from tests.support.replay_site import Json, Site, add_to, exists, neighbours
from tests.support.waiting import wait_for

HOST = "compute1"
SCENARIO, OTHER = "b2_dvr_snat_node_with_vms", "j_two_subnets_two_networks"
SUBNET = "83619838-a7da-48fb-a6c4-63643e3e307a"


class Case:
    """A site with one router in place, and the means to trouble it."""

    def __init__(self, site: Site, cable: Cable, broker: Rabbit, router: Json) -> None:
        self.site, self.cable, self.broker = site, cable, broker
        self.server, self.cloud = site.server, site.server.cloud
        self.router = router
        self.id = str(router["id"])
        self.fip = router["_floatingips"][0]
        self.network = str(router["gw_port"]["network_id"])

    def other(self) -> str:
        """A second router appears at the server, which has not said so yet; its id."""
        return str(add_to(self.cloud, OTHER, HOST)["id"])

    def twin(self) -> str:
        """A router like the first on the same external network, with networks and addresses of its own.

        The server has not said so yet.
        """
        twin = copy.deepcopy(self.router)
        twin["id"] = f"f{twin['id'][1:]}"
        inside = [*twin["_interfaces"], *twin["_snat_router_interfaces"]]
        for port in [*inside, twin["gw_port"]]:
            port["id"], port["mac_address"] = (
                f"f{port['id'][1:]}",
                f"{port['mac_address'][:-5]}ff:{port['mac_address'][-2:]}",
            )
        for port in inside:
            port["network_id"] = f"f{port['network_id'][1:]}"
        twin["gw_port"]["fixed_ips"][0]["ip_address"] = "203.0.113.240"
        twin["_floatingips"] = []
        self.cloud.routers[twin["id"]] = twin
        return str(twin["id"])

    def rename(self, name: str) -> None:
        """A change of the first router that is seen in the daemon's status when it arrived."""
        self.router["name"] = name
        self.server.updated(self.id)
        wait_for(lambda: self.site.daemon.ask(f"/routers/{self.id}")[1]["name"] == name)
        self.site.in_sync(self.id)


@pytest.fixture
def case(broker: Rabbit, neutron_server: NeutronServer, host: lab.Host, tmp_path: Path) -> Iterator[Case]:
    cloud = neutron_server.reset(HOST)
    router = add_to(cloud, SCENARIO, HOST)
    other = add_to(cloud, OTHER, HOST)
    external = {one["gw_port"]["network_id"] for one in (router, other)}
    del cloud.routers[other["id"]]
    with broker.reach() as cable:
        site = Site(host, tmp_path, neutron_server, "dvr_snat", external, rpc_response_timeout=1)
        site.daemon.configure(dvr_agent={"audit_interval": 1})
        site.start()
        site.in_sync(router["id"])
        yield Case(site, cable, broker, router)
        neutron_server.faults.clear()
        site.stop()


def until(release: threading.Event, answer: Callable[[Json], Any]) -> Callable[[Json], Any]:
    """A fault: the answer as it is now, given only when released."""

    def wait(args: Json) -> Any:
        early = copy.deepcopy(answer(args))
        release.wait(60)
        return early

    return wait


def test_a_question_that_is_not_answered_in_time_is_asked_again(case: Case) -> None:
    release = threading.Event()
    other = case.other()
    since = len(case.server.calls)
    with case.server.fault("sync_routers", until(release, lambda _args: [])):
        case.server.updated(other)
        case.server.wait_asked("sync_routers", since, number=2)
        assert case.site.state(case.id) == "in sync"
        release.set()
    case.site.in_sync(other)
    wait_for(lambda: case.site.source()["error"] == "")


def test_the_broker_dies_and_comes_back(case: Case) -> None:
    """The data plane and its audit go on; what happened meanwhile is found by itself."""
    other, twin = case.other(), case.twin()
    case.server.updated(twin)
    case.site.in_sync(twin)
    case.broker.kill()
    try:
        wait_for(lambda: case.site.source()["bus"]["connected"] is False)
        lab.run("ip", "-n", f"qrouter-{case.id}", "link", "del", f"rfp-{case.id[:10]}")
        wait_for(lambda: f"rfp-{case.id[:10]}" in lab.run("ip", "-n", f"qrouter-{case.id}", "link"))
        assert exists(f"qrouter-{twin}")
        del case.cloud.routers[twin]
        case.router["name"] = "renamed"
    finally:
        case.broker.restart()
    case.site.in_sync(other)
    case.site.gone(twin)
    assert case.site.daemon.ask(f"/routers/{case.id}")[1]["name"] == "renamed"
    case.rename("again")
    assert case.site.source()["bus"]["reconnects"] == 1


def test_a_host_that_comes_up_without_the_server_has_its_last_known_routers(case: Case) -> None:
    """And nothing of them is removed, whatever the server says first when it is back."""
    case.rename("kept")
    assert case.site.daemon.stop() == 0
    for namespace in [path.name for path in lab.NETNS.iterdir()]:
        lab.run("ip", "netns", "del", namespace)
    case.cable.cut()
    case.site.start(ready=False)
    wait_for(lambda: case.site.daemon.socket.exists() and case.site.daemon.answering())
    case.site.in_sync(case.id)
    assert exists(f"fip-{case.network}")
    wait_for(lambda: "kept from" in case.site.source()["incomplete"])
    other = case.other()
    case.cable.mend()
    case.site.in_sync(case.id, other)
    wait_for(lambda: case.site.source()["incomplete"] == "")


def test_repeated_and_reordered_casts_end_where_the_server_is(case: Case) -> None:
    address, mac = "10.1.0.77", "fa:16:3e:00:00:77"
    entry = {"router_id": case.id, "arp_table": {"ip_address": address, "mac_address": mac, "subnet_id": SUBNET}}
    since = len(case.server.calls)
    for _ in range(30):
        case.server.updated(case.id)
        case.server.fanout("del_arp_entry", "1.2", payload=entry)
        case.server.fanout("add_arp_entry", "1.2", payload=entry)
    wait_for(lambda: neighbours(case.id).get(address) == mac)
    case.rename("last")
    assert len(case.server.asked("sync_routers", since)) <= 31
    for _ in range(2):
        case.server.fanout("del_arp_entry", "1.2", payload=entry)
    wait_for(lambda: address not in neighbours(case.id))
    del case.cloud.routers[case.id]
    case.server.fanout("router_deleted", router_id=case.id)
    case.server.fanout("router_deleted", router_id=case.id)
    case.server.updated(case.id)  # overtaken by the deletion
    case.site.gone(case.id)
    other = case.other()
    assert case.server.call("router_added_to_agent", payload=[other]) is None
    case.site.in_sync(other)
    assert not exists(f"qrouter-{case.id}")


def test_a_router_that_is_deleted_while_it_is_fetched_is_not_built(case: Case) -> None:
    twin, release = case.twin(), threading.Event()
    since = len(case.server.calls)
    with case.server.fault("sync_routers", until(release, lambda _args: [case.cloud.routers[twin]])):
        case.server.updated(twin)
        case.server.wait_asked("sync_routers", since)
        del case.cloud.routers[twin]
        heard = case.site.source()["bus"]["notifications"]
        case.server.fanout("router_deleted", router_id=twin)
        wait_for(lambda: case.site.source()["bus"]["notifications"] > heard)
        release.set()
    case.rename("after it")
    assert case.site.state(twin) is None
    assert not exists(f"qrouter-{twin}")


def test_an_answer_that_is_wrong_is_one_routers_error(case: Case) -> None:
    """Whatever the server says of one router, others change meanwhile; and it is built when the answer is right."""
    other = case.other()
    right = case.cloud.routers[other]

    def strange(answer: Any) -> Callable[[Json], Any]:
        def reply(args: Json) -> Any:
            good = [case.cloud.routers[one] for one in args["router_ids"] if one != other]
            if other in args["router_ids"]:
                if isinstance(answer, Exception):
                    raise answer
                return [*good, answer]
            return good

        return reply

    half = {key: value for key, value in right.items() if key != "distributed"}
    for number, answer in enumerate(({"id": other}, half, {**right, "_interfaces": [None]}, KeyError("gw_port"))):
        with case.server.fault("sync_routers", strange(answer)):
            case.server.updated(other)
            wait_for(lambda: case.site.source()["bad"])
            case.rename(f"meanwhile {number}")
            assert not exists(f"qrouter-{other}")
        case.server.updated(other)
        case.site.in_sync(other)
        assert not case.site.source()["bad"]
        del case.cloud.routers[other]
        case.server.fanout("router_deleted", router_id=other)
        case.site.gone(other)
        case.cloud.routers[other] = right = copy.deepcopy(right)


def test_nothing_is_removed_when_the_list_of_routers_cannot_be_had(case: Case) -> None:
    answers: list[Any] = [None, {"routers": []}, ValueError("no database")]

    def answer(_args: Json) -> Any:
        found = answers.pop(0) if answers else list(case.cloud.routers)
        if isinstance(found, Exception):
            raise found
        return found

    with case.server.fault("get_router_ids", answer):
        assert case.site.daemon.ask("/sync", "POST")[0] == 202
        wait_for(lambda: case.site.source()["error"])
        assert exists(f"qrouter-{case.id}")
        wait_for(lambda: not answers)
        wait_for(lambda: not case.site.source()["error"])
    assert case.site.state(case.id) == "in sync"


def test_a_server_that_thought_us_dead_is_asked_for_everything(case: Case) -> None:
    other = case.other()
    case.cloud.heartbeat = "revived"
    case.site.in_sync(other)
    case.cloud.heartbeat = "alive"


def test_statuses_that_could_not_be_told_are_told_later(case: Case) -> None:
    def refuse(_args: Json) -> None:
        raise TimeoutError("database is locked")

    since = len(case.server.calls)
    with case.server.fault("update_floatingip_statuses", refuse):
        case.fip["status"] = "DOWN"
        case.rename("with a floating IP that is said to be down")
        case.server.wait_asked("update_floatingip_statuses", since)
    since = len(case.server.calls)
    told = case.server.wait_asked("update_floatingip_statuses", since, router_id=case.id)
    assert told.args["fip_statuses"] == {case.fip["id"]: "ACTIVE"}


def test_deleting_and_making_again_leaves_no_stray_floating_ip_namespace(case: Case) -> None:
    """The agent gateway port of the external network is given back once nobody here uses it, and not before."""
    since = len(case.server.calls)
    for _ in range(3):
        twin = case.twin()
        case.server.updated(twin)
        del case.cloud.routers[twin]
        case.server.fanout("router_deleted", router_id=twin)
    case.site.gone(twin)
    assert exists(f"fip-{case.network}")
    assert case.server.asked("delete_agent_gateway_port", since) == []
    del case.cloud.routers[case.id]
    case.server.fanout("router_deleted", router_id=case.id)
    case.server.fanout("fipnamespace_delete_on_ext_net", "1.3", ext_net_id=case.network)
    case.site.gone(case.id)
    wait_for(lambda: not exists(f"fip-{case.network}"))
    case.server.wait_asked("delete_agent_gateway_port", since, network_id=case.network)
    assert [path.name for path in lab.NETNS.iterdir()] == []
    wait_for(lambda: not any(link["ifname"].startswith("tap") for link in lab.ip_json("link")))


def test_two_agent_gateway_ports_for_one_host_make_one_device(case: Case) -> None:
    first = case.router["_floatingip_agent_interfaces"][0]
    second = copy.deepcopy(first)
    second["id"], second["mac_address"] = f"e{first['id'][1:]}", "fa:16:3e:00:00:99"
    second["fixed_ips"][0]["ip_address"] = "203.0.113.250"
    for ports in ([first, second], [second, first]):
        case.router["_floatingip_agent_interfaces"] = ports
        case.rename(f"with {ports[0]['id']} first")
        links = [link["ifname"] for link in lab.ip_json("link", netns=f"fip-{case.network}")]
        assert len([name for name in links if name.startswith("fg-")]) == 1
    assert case.site.state(case.id) == "in sync"


def test_the_newer_document_has_a_floating_ip_and_the_older_router_is_asked_for(case: Case) -> None:
    twin, address = case.twin(), case.fip["floating_ip_address"]
    theirs = {**case.fip, "id": f"f{case.fip['id'][1:]}", "router_id": twin}
    case.cloud.routers[twin]["_floatingips"] = [theirs]
    case.router["_floatingips"] = []
    since = len(case.server.calls)
    case.server.updated(twin)  # nothing is said about the first router, which has lost it
    case.site.in_sync(twin, case.id)
    wait_for(lambda: [case.id] in [call.args["router_ids"] for call in case.server.asked("sync_routers", since)])
    wait_for(lambda: f"fpr-{twin[:10]}" in lab.run("ip", "-n", f"fip-{case.network}", "route", "show", address))
    case.site.in_sync(case.id)

    case.router["_floatingips"] = [case.fip]  # and while both documents have it, the newer one wins
    since = len(case.server.calls)
    case.server.updated(case.id)
    wait_for(lambda: case.site.state(twin) == "degraded")
    case.site.in_sync(case.id)
    wait_for(lambda: f"fpr-{case.id[:10]}" in lab.run("ip", "-n", f"fip-{case.network}", "route", "show", address))
    wait_for(lambda: [twin] in [call.args["router_ids"] for call in case.server.asked("sync_routers", since)])
    case.server.wait_asked("update_floatingip_statuses", since, router_id=twin, fip_statuses={theirs["id"]: "ERROR"})
    assert f"router {case.id} has it" in case.site.daemon.ask(f"/routers/{twin}")[1]["reason"]

    case.router["_floatingips"] = []
    case.server.updated(case.id)
    case.site.in_sync(twin, case.id)
    wait_for(lambda: f"fpr-{twin[:10]}" in lab.run("ip", "-n", f"fip-{case.network}", "route", "show", address))
