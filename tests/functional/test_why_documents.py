"""``dvrctl why`` names what a document says, and what is on this host of an address that no document has."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dvr_agent.cli.subjects import NotFoundError
from dvr_agent.cli.why.answer import Answer
from dvr_agent.cli.why.verdicts import Verdict
from tests.support import lab
from tests.support.filter_tools import remove_translation, uses_nftables
from tests.support.forwarding_documents import ForwardingRouter
from tests.support.packet_documents import Network, uid
from tests.support.packet_world import PUBLIC
from tests.support.why_rig import BLUE, CENTRAL, FIP, GATEWAY, WhyRig

Json = dict[str, Any]
GREEN, SIX = Network("green", ("10.2.0.0/24",)), Network("six", ("2001:db8:6::/64",))


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WhyRig]:
    with lab.fresh_host() as host:
        yield WhyRig(host, tmp_path_factory.mktemp("why"))


def fips(**changed: object) -> Callable[[Json], Json]:
    """Change the first floating IP of a document."""

    def change(router: Json) -> Json:
        first, *rest = router["_floatingips"]
        return {"_floatingips": [{**first, **changed}, *rest]}

    return change


def always(**changed: object) -> Callable[[Json], Json]:
    return lambda _router: changed


DOCUMENTS: dict[str, tuple[str, Callable[[Json], Json], str, str, bool]] = {
    # cause, change of the document, subject, words of the sentence, whether it is wrong here
    "down": ("router-down", always(admin_state_up=False), FIP, "administratively down", True),
    "no gateway": ("no-gateway", always(gw_port=None, _floatingips=[]), "10.1.0.5", "no external gateway", False),
    "fips, no gateway": ("document-refused", always(gw_port=None), FIP, "without gateway port", True),
    "another host": ("instance-here", fips(host="node7"), FIP, "binds its port to host node7", True),
    "bound nowhere": ("instance-here", fips(host=None), FIP, "binds its port to no host", True),
    "no agent gateway": ("no-agent-gateway", always(_floatingip_agent_interfaces=[]), FIP, "no agent gateway", True),
    "the gateway's address": ("left-out", fips(fixed_ip_address="10.1.0.1"), FIP, "left out", True),
    "snat host": ("snat-elsewhere", always(gw_port_host="node7"), CENTRAL, "on host node7", False),
    "gateway elsewhere": ("snat-elsewhere", always(gw_port_host="node7"), GATEWAY, "on host node7", False),
    "no snat host": ("no-snat-host", always(gw_port_host=None), CENTRAL, "no host has", True),
    "ha without a port": ("left-alone", always(distributed=False, ha=True), FIP, "no HA port", False),
    "legacy elsewhere": ("left-alone", always(distributed=False, gw_port_host="node7"), "one", "node7", False),
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_what_the_document_says_is_named(rig: WhyRig, name: str) -> None:
    cause, change, subject, says, is_wrong = DOCUMENTS[name]
    changed = change(rig.router.envelope()["router"])
    if cause == "document-refused":
        rig.write(rig.router, **changed)
        found = rig.why(subject)
        rig.write(rig.router)
    else:
        with rig.document(**changed):
            found = rig.why(subject)
    assert named(found) == (cause, is_wrong), found.sentence
    assert says in found.sentence


def test_two_ports_with_one_address_are_named(rig: WhyRig) -> None:
    envelope = rig.router.envelope()
    subnet = BLUE.subnet_id(BLUE.cidrs[0])
    twin = {**rig.one.port(), "id": uid("port", "twin"), "mac_address": "fa:16:3e:00:00:77"}
    envelope["ports_by_subnet"][subnet].append(twin)
    path = rig.write(rig.router)
    path.write_text(json.dumps(envelope))
    found = rig.why(FIP)
    rig.write(rig.router)
    assert named(found) == ("address-twice", True)
    assert rig.one.port()["id"] in found.sentence
    assert twin["id"] in found.sentence


def test_an_external_subnet_without_gateway_is_named(rig: WhyRig) -> None:
    agent = rig.router.envelope()["router"]["_floatingip_agent_interfaces"][0]
    agent["subnets"] = [{**subnet, "gateway_ip": None} for subnet in agent["subnets"]]
    with rig.document(_floatingip_agent_interfaces=[agent]):
        found = rig.why(FIP)
    assert named(found) == ("no-subnet-gateway", True)


def test_a_thing_that_another_document_has_is_named(rig: WhyRig) -> None:
    second = rig.world.cloud.router("second", BLUE).gateway(rig.router.external, "203.0.113.4")  # type: ignore[arg-type]
    second.floating_ip(FIP, rig.other)
    path = rig.write(second)
    found = {name: rig.explain(FIP, name) for name in ("one", "second")}
    with pytest.raises(NotFoundError, match=r"2 routers: .*--router"):
        rig.why(FIP)
    path.unlink()
    lost, kept = found["second"], found["one"]
    assert named(lost) == ("claim-lost", True), lost.sentence
    assert f"without its floating IP {FIP}: document one.json of router one claims it, too" in lost.sentence
    assert "since the kernel has it for that router already" in lost.sentence
    assert max(step.text.count("one.json") for step in lost.steps) == 1
    assert named(kept) == ("claim-rival", False), kept.sentence
    assert f"router second (document second.json) claims {FIP}, too; router one has it, since the ker" in kept.sentence
    assert any("$._floatingips[" in step.text for step in kept.steps if step.step == "claims")


def test_a_claim_on_another_host_is_named_as_two_hosts_that_answer(rig: WhyRig) -> None:
    second = rig.world.cloud.router("second", GREEN).gateway(PUBLIC, "203.0.113.4")
    second.floating_ip(FIP, rig.world.cloud.vm("elsewhere", GREEN, "10.2.0.7", host="node7"))
    path = rig.write(second)
    found = rig.explain(FIP, "one")
    path.unlink()
    del rig.world.cloud.vms["elsewhere"]
    assert named(found) == ("claim-rival", False), found.sentence
    assert "it is built on host node7, so that two hosts answer" in found.sentence


def test_a_refused_document_is_named_by_router_and_address(rig: WhyRig) -> None:
    path = rig.write(rig.router, distributed="yes")
    found = [rig.why(subject) for subject in (FIP, rig.router.id, "one")]
    path.write_text(path.read_text().replace('"yes"', "true"))
    for one in found:
        assert one.is_wrong
        assert 'document of router one is refused: $.router.distributed is "yes": expected true' in one.sentence
        assert rig.router.qrouter in one.sentence  # what is in the kernel
        assert f"dvrctl check {path}`" in one.advice
        (wanted,) = (step.text for step in one.steps if step.step == "wanted")
        assert f"{FIP} → 10.1.0.5" in wanted
        assert not any(step.step == "near" for step in one.steps)
        assert sum(step.text.count(rig.router.id) for step in one.steps if step.step == "document") == 1
    assert [named(one) for one in found] == [("document-refused", True)] * 3


def test_an_address_whose_document_is_refused_is_not_stale_though_the_document_lacks_it(rig: WhyRig) -> None:
    wrong = [{**fip, "floating_ip_address": "300.0.0.1"} for fip in rig.router.envelope()["router"]["_floatingips"]]
    path = rig.write(rig.router, _floatingips=wrong)
    with_id = rig.why(FIP)
    path.write_text("{")
    without_id = [rig.why(FIP), rig.why(rig.router.id)]
    rig.write(rig.router)
    assert [named(one) for one in (with_id, *without_id)] == [("document-refused", True)] * 3
    assert 'document of router one is refused: $.router._floatingips[0].floating_ip_address is "300' in with_id.sentence
    for one in without_id:
        assert "document of router (its id cannot be read) is refused: $ is " in one.sentence
        assert rig.router.qrouter in one.sentence


def test_an_address_that_only_the_kernel_has_is_named(rig: WhyRig) -> None:
    rest = rig.router.envelope()["router"]["_floatingips"][1:]
    rig.write(rig.router, _floatingips=rest)
    found = rig.why(FIP)
    rig.write(rig.router)
    assert named(found) == ("kernel-only", True)
    assert f"DNAT to 10.1.0.5 in {rig.router.qrouter}" in found.sentence


def test_an_address_that_nothing_has_is_named_with_its_subnet(rig: WhyRig) -> None:
    found = rig.why("10.1.0.99")
    assert named(found) == ("no-document", True)
    assert "in subnet 10.1.0.0/24 of router one" in found.sentence
    assert named(rig.why("192.0.2.1")) == ("no-document", True)


def test_a_subnet_that_several_routers_have_is_one_line(rig: WhyRig) -> None:
    paths = [
        rig.write(rig.world.cloud.router(f"more{number}").gateway(PUBLIC, f"203.0.113.{number}"))
        for number in range(100, 103)
    ]
    found = rig.why("203.0.113.250")
    for path in paths:
        path.unlink()
    near = [step.text for step in found.steps if step.step == "near"]
    assert len(near) == 1
    assert "203.0.113.0/24 of 4 routers (agent gateway port, gateway port)" in near[0]


def test_an_instance_without_device_is_the_explanation(rig: WhyRig) -> None:
    gone = rig.world.cloud.vm("gone", BLUE, "10.1.0.9")
    rig.router.floating_ip("203.0.113.41", gone)
    rig.write(rig.router)
    rig.repair()
    found = rig.why("203.0.113.41")
    rig.router.no_floating_ip("203.0.113.41")
    del rig.world.cloud.vms["gone"]
    rig.write(rig.router)
    rig.repair()
    assert named(found) == ("instance-absent", False), found.sentence
    assert f"no device {rig.tap(gone)} on this host" in found.sentence


def test_the_address_of_a_pair_is_explained(rig: WhyRig) -> None:
    names = rig.names
    (address,) = lab.ip_json("-4", "addr", "show", "dev", names["rfp"], netns=names["Q"])[0]["addr_info"]
    assert rig.why(address["local"]).cause is None


def test_a_legacy_router_is_explained_in_its_one_namespace(rig: WhyRig) -> None:
    address = "203.0.113.50"
    old = rig.world.cloud.router("old", GREEN).gateway(PUBLIC, "203.0.113.6")
    old.legacy = True
    old.floating_ip(address, rig.world.cloud.vm("vm9", GREEN, "10.2.0.5"))
    path = rig.write(old)
    rig.world.apply(old)
    whole = [rig.why(subject) for subject in (address, "old", "10.2.0.5", "203.0.113.6")]
    remove_translation(old.qrouter, address)
    found = rig.why(address)
    path.unlink()
    rig.world.remove(old)
    assert [(one.cause, one.is_wrong) for one in whole] == [(None, False)] * 4, [one.sentence for one in whole]
    assert named(found) == ("nat-missing", True)
    assert address in found.sentence
    assert old.qrouter in found.sentence


def test_a_floating_ip_of_port_forwardings_is_explained(rig: WhyRig) -> None:
    router = ForwardingRouter(rig.world.cloud, "forwarding", [GREEN]).gateway(PUBLIC, "203.0.113.7")
    assert isinstance(router, ForwardingRouter)
    vm = rig.world.cloud.vm("vm8", GREEN, "10.2.0.6")
    router.forward("203.0.113.60", "tcp", "2222", vm, "22")
    path = rig.write(router)
    rig.world.apply(router)  # without the extension
    with rig.configured("[agent]", "extensions = port_forwarding"):
        found = rig.why("203.0.113.60")
    path.unlink()
    rig.world.remove(router)
    assert named(found) == ("address-missing", True), found.sentence
    port = "2222" if uses_nftables() else "--dport 2222"
    assert any(port in step.object and step.verdict is Verdict.WRONG for step in found.steps)
    assert router.snat_namespace in found.sentence


def test_an_instance_of_another_host_is_not_asked(rig: WhyRig) -> None:
    far = rig.world.cloud.vm("far", BLUE, "10.1.0.77", host="node2")
    path = rig.write(rig.router)
    rig.repair()
    found = rig.why(far.address, probe=True)
    del rig.world.cloud.vms["far"]
    rig.write(rig.router)
    rig.repair()
    assert path.exists()
    assert [step.text for step in found.steps if step.step == "probe" and far.address in step.text] == []
    assert (found.cause, found.is_wrong) == (None, False), found.sentence


def test_a_router_without_metadata_listener_is_named(rig: WhyRig) -> None:
    with rig.configured("[DEFAULT]", "enable_metadata_proxy = true"):
        found = rig.why("one")
    causes = {step.cause.key for step in found.steps if step.cause is not None}
    assert "metadata-dead" in causes, found.steps


def test_an_ipv6_address_is_explained(rig: WhyRig) -> None:
    six = rig.world.cloud.router("six", SIX).gateway(PUBLIC, "203.0.113.8", "2001:db8:f::8")
    vm = rig.world.cloud.vm("vm6", SIX, "2001:db8:6::5")
    path = rig.write(six)
    rig.world.apply(six)
    whole = rig.why(vm.address)
    lab.run("ip", "-n", six.qrouter, "-6", "rule", "add", "priority", "9", "from", f"{vm.address}", "prohibit")
    found = rig.why(vm.address)
    path.unlink()
    rig.world.remove(six)
    assert (whole.cause, whole.is_wrong) == (None, False), whole.sentence
    assert named(found) == ("rule-before", True)
    assert "prohibit" in found.sentence


@pytest.mark.parametrize("text", ["nothing", "ff", "x" * 300, "10.1.0", "{0}", ""])
def test_a_subject_that_does_not_exist_is_an_error(rig: WhyRig, text: str) -> None:
    with pytest.raises(NotFoundError):
        rig.why(text)


def test_braces_in_names_are_no_placeholders(rig: WhyRig) -> None:
    with rig.document(name="{subject.__class__} {} %s", admin_state_up=False):
        found = rig.why(FIP)
    assert "{subject.__class__} {} %s" in found.sentence


def named(found: Answer) -> tuple[str | None, bool]:
    return (found.cause.key if found.cause is not None else None, found.is_wrong)
