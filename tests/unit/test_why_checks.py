"""Checks of ``dvrctl why`` on facts made by hand: what no kernel here shows, and what tools print."""

from __future__ import annotations

import re
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from dvr_agent.attach.outer_ends import tap_name
from dvr_agent.cli.why import causes, checks
from dvr_agent.cli.why.address_path import NO_PATH, local_path
from dvr_agent.cli.why.answer import Answer, answer
from dvr_agent.cli.why.checks.filters import selects
from dvr_agent.cli.why.checks.routing import rule_command, rule_effect
from dvr_agent.cli.why.facts import (
    ConnectionFacts,
    DaemonFacts,
    Facts,
    HostFacts,
    Kind,
    LinkFacts,
    NamespaceFacts,
    OvsPort,
    PlanFacts,
    ProbeFacts,
    Refusal,
)
from dvr_agent.cli.why.gather.filter_text import parse_iptables, parse_nft
from dvr_agent.cli.why.gather.host import parse_ovs
from dvr_agent.cli.why.gather.ip_text import (
    parse_fdb,
    parse_links,
    parse_neighbours,
    parse_policies,
    parse_routes,
    parse_rules,
)
from dvr_agent.cli.why.gather.probe import answer as arp_answer
from dvr_agent.cli.why.gather.probe import request
from dvr_agent.cli.why.subject import find_subject
from dvr_agent.desired.host_settings import AgentMode, HostSettings
from dvr_agent.desired.host_view import make_view
from dvr_agent.kernel.announce import BROADCAST
from dvr_agent.model.parse import parse_document
from dvr_agent.state.diff import Action, Change, Changes
from dvr_agent.state.limit import Limit
from tests.support.packet_documents import Cloud, Network

BLUE = Network("blue", ("10.1.0.0/24",))
PUBLIC = Network("public", ("203.0.113.0/24",), 1500, "", ("203.0.113.2",))
FIP, FIXED, HOST = "203.0.113.10", "10.1.0.5", "node1"
SETTINGS = HostSettings(host=HOST, mode=AgentMode.DVR_SNAT)


def make_facts() -> Facts:
    cloud = Cloud(HOST)
    vm = cloud.vm("vm1", BLUE, FIXED)
    document = cloud.router("one", BLUE).gateway(PUBLIC, "203.0.113.3").floating_ip(FIP, vm)
    router = parse_document(document.raw(), "one.json")
    view = make_view(router, SETTINGS)
    subject = find_subject(FIP, {router.id: ("one.json", router)})
    path = local_path(view, FIP, FIXED)
    there = {name: NamespaceFacts(name) for name in path.namespaces}
    return Facts(subject, SETTINGS, path=path, plan=PlanFacts(view=view), namespaces=there)


FACTS = make_facts()
QROUTER = FACTS.path.inside[0].namespace
ROUTER = FACTS.subject.router
assert ROUTER is not None
FIP_ID = ROUTER.floating_ips[0].id
QR_ID = FACTS.path.inside[0].port.id
assert FACTS.subject.port is not None
VM_ID, VM_MAC = FACTS.subject.port.id, FACTS.subject.port.mac
TAP_MAC = f"fe{VM_MAC[2:]}"


def with_namespace(**changed: Any) -> Facts:
    return replace(FACTS, namespaces={**FACTS.namespaces, QROUTER: NamespaceFacts(QROUTER, **changed)})


def with_plan(**changed: Any) -> Facts:
    return replace(FACTS, plan=replace(FACTS.plan, **changed))


def with_daemon(status: dict[str, Any], **router: Any) -> Facts:
    return replace(FACTS, daemon=DaemonFacts(status=status, router=router))


def with_ovs(*ports: OvsPort) -> Facts:
    return replace(FACTS, host=HostFacts(ovs=ports))


def ovs_port(port_id: str, tag: int | None, error: str = "", mac: str = "") -> OvsPort:
    return OvsPort(f"port{tag}", "", tag, port_id, error, "", mac)


def with_tap(mac: str, *learned: str, elsewhere: str = "", **of_port: Any) -> Facts:
    """The instance's tap device with a MAC address, behind which the bridge has learned others.

    :param elsewhere: a MAC address that the bridge has learned behind its uplink
    :param of_port: values of the instance's port in the document
    """
    assert FACTS.subject.port is not None
    router_tap, tap = tap_name(QR_ID), tap_name(VM_ID)
    links = (
        LinkFacts(router_tap, "", 1450, True, True, "brq", "veth"),
        LinkFacts(tap, mac, 1450, True, True, "brq", "tun"),
    )
    fdb = dict.fromkeys(learned, (tap,)) | ({elsewhere: ("eth0",)} if elsewhere else {})
    port = replace(FACTS.subject.port, **of_port)
    router = replace(ROUTER, ports_by_subnet=(("subnet", (port,)),)) if ROUTER is not None else None
    host = HostFacts(NamespaceFacts("", links=links), {"brq": fdb})
    return replace(FACTS, subject=replace(FACTS.subject, port=port, router=router), host=host)


def bound_to(host: str, facts: Facts) -> Facts:
    """The floating IP's port is bound to another host, so that nothing of it is on a path here."""
    assert facts.subject.fip is not None
    subject = replace(facts.subject, fip=replace(facts.subject.fip, host=host))
    return replace(facts, subject=subject, path=NO_PATH)


OTHER_MAC, VRRP_MAC = "fa:16:3e:00:00:99", "00:00:5e:00:01:07"
SERVED = {"source": {"source": "neutron", "server": {"away": False}, "bus": {"connected": True}}}
LIMIT = Limit("rfp-1", "leaving", FIP, 1000, 65536)
CASES: dict[str, tuple[str | None, str, Facts]] = {
    "nothing": (None, "is right", FACTS),
    "full table": ("conntrack-full", "262144 of 262144", with_namespace(tracked=(262144, 262144))),
    "half a table": (None, "is right", with_namespace(tracked=(131072, 262144))),
    "old translation": (
        "conntrack-old", "dst=203.0.113.10",
        with_namespace(connections=(ConnectionFacts("192.0.2.1", FIP, "10.1.0.9", "192.0.2.1"),)),
    ),
    "leaves as another": (
        "conntrack-old", "src=10.1.0.5",
        with_namespace(connections=(ConnectionFacts(FIXED, "192.0.2.1", "192.0.2.1", "203.0.113.99"),)),
    ),
    "right translation": (
        None, "is right",
        with_namespace(connections=(
            ConnectionFacts("192.0.2.1", FIP, FIXED, "192.0.2.1"),
            ConnectionFacts(FIXED, "10.2.0.1", "10.2.0.1", FIXED),
        )),
    ),
    "dead vlan": ("vlan-dead", "4095", with_ovs(ovs_port(QR_ID, 4095))),
    "no vlan": ("vlan-none", "no VLAN tag", with_ovs(ovs_port(QR_ID, None))),
    "two vlans": ("vlan-mismatch", "tag 5", with_ovs(ovs_port(QR_ID, 5), ovs_port(VM_ID, 6))),
    "one vlan": (None, "is right", with_ovs(ovs_port(QR_ID, 5), ovs_port(VM_ID, 5))),
    "ovs error": ("ovs-error", "could not open", with_ovs(ovs_port(QR_ID, 5, "could not open network device"))),
    "ovs mac": ("instance-mac", OTHER_MAC, with_ovs(ovs_port(QR_ID, 5), ovs_port(VM_ID, 5, mac=OTHER_MAC))),
    "right ovs mac": (None, "is right", with_ovs(ovs_port(QR_ID, 5), ovs_port(VM_ID, 5, mac=VM_MAC))),
    "ovs port of another host": (
        "instance-here", "by port5 (port of Open vSwitch)", bound_to("node3", with_ovs(ovs_port(VM_ID, 5, mac=VM_MAC)))
    ),
    "tap mac": ("instance-mac", OTHER_MAC, with_tap(f"fe{OTHER_MAC[2:]}")),
    "right tap mac": (None, "is right", with_tap(TAP_MAC, VM_MAC, OTHER_MAC)),
    "no libvirt": (None, "is right", with_tap(OTHER_MAC)),
    "learned mac": ("instance-mac", OTHER_MAC, with_tap("02:00:00:00:00:01", OTHER_MAC)),
    "virtual router": (None, "is right", with_tap(TAP_MAC, VRRP_MAC)),
    "address pair": (None, "is right", with_tap(TAP_MAC, OTHER_MAC, pairs=((OTHER_MAC, ip_network(f"{FIXED}/32")),))),
    "moved": ("mac-elsewhere", "eth0", with_tap("02:00:00:00:00:01", OTHER_MAC, elsewhere=VM_MAC)),
    "answer of another mac": (
        "instance-mac", "the answer to ARP (it is behind port eth0 of bridge brq)",
        replace(with_tap(OTHER_MAC, elsewhere=OTHER_MAC), probe=ProbeFacts(instance=(OTHER_MAC,))),
    ),
    "two answers": (
        "address-elsewhere", "behind port eth0 of bridge brq",
        replace(with_tap(TAP_MAC, VM_MAC, elsewhere=OTHER_MAC), probe=ProbeFacts(instance=(VM_MAC, OTHER_MAC))),
    ),
    "tap of another host": (
        "instance-here", f"MAC address {VM_MAC} is connected", bound_to("node3", with_tap(TAP_MAC))
    ),
    "server away": (
        "server-away", "does not answer",
        with_daemon({"source": {"server": {"away": True}, "bus": {"connected": True}}}),
    ),
    "no bus": (
        "server-away", "not connected",
        with_daemon({"source": {"server": {"away": False}, "bus": {"connected": False}}}),
    ),
    "status not sent": (
        "status-waiting", "as ACTIVE yet",
        with_daemon(SERVED, id="x", state="in sync", floating_ips={FIP_ID: {"wanted": "ACTIVE", "server": "DOWN"}}),
    ),
    "error at the server": (
        "status-down", "as ERROR",
        with_daemon(SERVED, id="x", state="in sync", floating_ips={FIP_ID: {"wanted": "ERROR", "server": "ERROR"}}),
    ),
    "active": (
        None, "is right",
        with_daemon(SERVED, id="x", state="in sync", floating_ips={FIP_ID: {"wanted": "ACTIVE", "server": "ACTIVE"}}),
    ),
    "pending": ("pending", "waits for its job", with_daemon({}, id="x", state="pending", reason="")),
    "degraded": (
        "degraded", "no radvd", with_daemon({}, id="x", state="degraded", reason="no radvd", failures=2, next_retry=4.0)
    ),
    "refused": (
        "refused", "no memory",
        replace(
            with_daemon({}, id="x", state="degraded", reason="no memory", failures=1, next_retry=2.0),
            plan=replace(FACTS.plan, changes=(Changes(QROUTER, create=True),)),
        ),
    ),
    "another's part refused": (
        "degraded", "no memory",
        replace(
            with_daemon({}, id="x", state="degraded", reason="no memory", failures=1, next_retry=2.0),
            plan=replace(FACTS.plan, changes=(Changes("snat-x", create=True),)),
        ),
    ),
    "radvd": ("radvd-dead", "radvd is missing", with_plan(services=(("radvd", "+ radvd"),))),
    "metadata": (
        "metadata-dead", "dvr-metadata-proxy", with_plan(service_troubles=("metadata: dvr-metadata-proxy is away",))
    ),
    "keepalived": ("vrrp-dead", "keepalived is missing", with_plan(services=(("keepalived", "+ keepalived"),))),
    "limit": (
        "limit-wrong", "to 8 kbit/s",
        with_plan(changes=(Changes(QROUTER, items=(Change(Action.CHANGE, LIMIT, LIMIT._replace(rate=9)),)),)),
    ),
    "no plan": ("not-compared", "no answer", replace(FACTS, plan=PlanFacts(error="netlink: no answer"))),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_facts_lead_to_a_sentence(name: str) -> None:
    key, says, facts = CASES[name]
    if name == "limit":
        facts = replace(facts, path=replace(facts.path, pair={QROUTER: "rfp-1"}))
    found = answer(facts)
    assert (named(found), says in found.sentence) == (key, True), found.sentence
    assert "unknown)" not in found.sentence + found.advice


def named(found: Answer) -> str | None:
    return found.cause.key if found.cause is not None else None


def test_a_mac_address_that_only_a_bridge_has_learned_is_a_hint_where_the_hypervisor_has_that_of_the_document() -> None:
    found = answer(with_tap(TAP_MAC, OTHER_MAC))
    assert (named(found), found.is_wrong) == ("instance-mac", False)


def test_every_cause_is_used_by_a_check_and_has_a_key_of_its_own() -> None:
    folder = Path(checks.__file__).parent
    text = "\n".join(path.read_text() for path in [*folder.glob("*.py"), folder.parent / "answer.py"])
    names = {name: value for name, value in vars(causes).items() if isinstance(value, causes.Cause)}
    assert [name for name in names if not re.search(rf"causes\.{name}\b", text)] == []
    assert len({cause.key for cause in causes.CAUSES}) == len(causes.CAUSES) == len(names)


def test_the_first_cause_of_the_list_explains_and_lines_of_other_faults_are_counted() -> None:
    facts = replace(with_namespace(tracked=(5, 5)), refusal=Refusal("one.json", "$.id is wrong"))
    found = answer(facts)
    assert named(found) == "document-refused"
    assert found.sentence.endswith("(1 more line wrong, maybe by another fault: conntrack.)")


def test_lines_that_follow_from_the_fault_are_not_counted() -> None:
    link = LinkFacts(FACTS.path.pair[QROUTER], "", 1500, up=True, carrier=False)
    missing = Changes(QROUTER, create=True)
    facts = replace(
        with_namespace(links=(link,)),
        plan=replace(FACTS.plan, changes=(missing,)),
        daemon=DaemonFacts("silent", 5, is_silent=True, is_stopped=True),
    )
    found = answer(facts)
    assert [step.cause for step in found.steps if step.verdict.value == "wrong"] == [
        causes.NAMESPACE_MISSING, causes.NO_CARRIER, causes.DAEMON_SILENT,
    ]  # fmt: skip
    assert found.sentence == f"Namespace {QROUTER} is missing."
    assert found.advice == "Continue dvr-agent (`kill -CONT 5`), which repairs it."


@pytest.mark.parametrize(
    ("daemon", "sentence", "advice"),
    [
        (DaemonFacts("silent", 5, is_silent=True, is_stopped=True), "reaches this host: silent.", "kill -CONT 5"),
        (DaemonFacts("silent", 5, is_silent=True), "reaches this host: silent.", "systemctl restart dvr-agent"),
        (DaemonFacts("away", 5), "is right.", ""),
        (DaemonFacts("away"), "is right.", ""),
    ],
)
def test_a_daemon_that_does_not_answer_is_a_fault_one_that_does_not_run_is_none(
    daemon: DaemonFacts, sentence: str, advice: str
) -> None:
    found = answer(replace(FACTS, daemon=daemon))
    assert found.sentence.endswith(sentence)
    assert advice in found.advice
    assert [step.text for step in found.steps].count(daemon.unreachable) == 1


def test_the_way_to_a_daemon_that_answers_is_in_the_advice() -> None:
    missing = replace(FACTS.plan, changes=(Changes(QROUTER, create=True),))
    daemons = (DaemonFacts("x"), DaemonFacts("x", 5), DaemonFacts("x", 5, is_silent=True))
    found = [answer(replace(FACTS, plan=missing, daemon=daemon)).advice for daemon in daemons]
    assert [advice.partition(",")[0] for advice in found] == [
        "Start dvr-agent",
        "Restart dvr-agent (process 5 has its lock",
        "Look what dvr-agent waits for (`dvrctl diag`)",
    ]


RULES = {
    "lookup": (
        "100:\tfrom 10.1.0.5 lookup 220",
        "rule del priority 100 from 10.1.0.5 lookup 220",
        "its table 220 has ",
    ),
    "detached": (
        "7: from all iif x [detached] lookup 220 proto static",
        "rule del priority 7 from all iif x lookup 220 proto static",
        "its table 220 has a blackhole default route",
    ),
    "discards": ("8: from all prohibit", "rule del priority 8 from all prohibit", "it discards the packets (prohibit)"),
    "goto": ("9: from all goto 50", "rule del priority 9 from all goto 50", "it skips the rules up to priority 50"),
}


@pytest.mark.parametrize("name", RULES)
def test_the_command_that_removes_a_rule_is_whole_and_says_what_the_rule_does(name: str) -> None:
    text, command, effect = RULES[name]
    (rule,) = parse_rules(text, 4)
    there = NamespaceFacts(QROUTER, routes=tuple(parse_routes("blackhole default table 220", 4)))
    assert rule_command(QROUTER, rule) == f"ip -n {QROUTER} {command}"
    assert rule_effect(there, rule).startswith(effect)


def test_the_command_of_an_ipv6_rule_has_its_family() -> None:
    (rule,) = parse_rules("5: from all lookup 9", 6)
    assert rule_command("ns", rule) == "ip -6 -n ns rule del priority 5 from all lookup 9"


def test_routes_of_a_rules_table_are_shown_and_counted() -> None:
    (rule,) = parse_rules("5: from all lookup 9", 4)
    text = "".join(f"10.{number}.0.0/16 dev x table 9\n" for number in range(5))
    effect = rule_effect(NamespaceFacts("ns", routes=tuple(parse_routes(text, 4))), rule)
    assert effect.startswith("its table 9 has 5 routes: 10.0.0.0/16 dev x table 9, 10.1")
    assert "10.3" not in effect


def test_what_cannot_be_read_is_unknown_and_never_right() -> None:
    unread = {"nft": "nft is not installed", "rules": "ip: no", "routes": "ip: no", "links": "ip: no"}
    found = answer(with_namespace(unread=unread))
    lines = [(step.step, step.verdict.value) for step in found.steps if QROUTER in step.text and "not" in step.text]
    assert ("filter", "unknown") in lines
    assert not found.is_wrong
    assert [step.text for step in found.steps if step.step == "rule" and QROUTER in step.text] == [
        f"in {QROUTER}: ip: no"
    ]


# --- what tools print ---

IPTABLES = """\
# Generated by iptables-save
*nat
:PREROUTING ACCEPT [0:0]
:dvr-PREROUTING - [0:0]
[3:180] -A PREROUTING -j dvr-PREROUTING
[0:0] -A dvr-PREROUTING -d 203.0.113.10/32 -i rfp-1 -j DNAT --to-destination 10.1.0.5
[2:120] -A PREROUTING ! -s 192.0.2.0/24 -d 203.0.113.10/32 -j DNAT --to-destination 10.9.9.9
COMMIT
*filter
:FORWARD ACCEPT [0:0]
[7:420] -A FORWARD -i qr-1 -p tcp -m tcp --dport 22 -m comment --comment "no -j ssh" -j DROP
[0:0] -A FORWARD -m physdev --physdev-in tap1 --physdev-is-bridged -j REJECT --reject-with icmp-port-unreachable
[0:0] -A FORWARD -j ACCEPT
COMMIT
"""


def test_rules_of_others_in_iptables_save() -> None:
    nat, drop, bridged = parse_iptables(IPTABLES, "iptables")
    assert (nat.verdict, nat.hook, nat.selects) == (
        "DNAT",
        "PREROUTING",
        {"src": "!192.0.2.0/24", "dst": "203.0.113.10/32"},
    )
    assert (nat.is_conditional, nat.packets) == (False, 2)
    assert (drop.verdict, drop.selects, drop.is_conditional, drop.packets) == ("DROP", {"iif": "qr-1"}, True, 7)
    assert drop.text.startswith("iptables -t filter -A FORWARD -i qr-1 -p tcp")
    assert (bridged.verdict, bridged.selects, bridged.is_conditional) == ("REJECT", {"iif": "tap1"}, False)


NFT = """\
table ip t {
\tchain c {
\t\ttype filter hook forward priority filter; policy accept;
\t\tip daddr 10.1.0.5 counter packets 4 bytes 240 drop comment "mine"
\t\tiifname "qr-1" ip saddr != 10.1.0.0/24 tcp dport 80 reject with tcp reset
\t\tip daddr @blocked drop
\t\taccept
\t}
\tchain helper {
\t\tmeta mark 0x1 drop
\t}
}
table netdev dvr_qos {
\tchain leaving_rfp {
\t\ttype filter hook egress device "rfp-1" priority filter; policy accept;
\t\tlimit name ip saddr map @leaving drop
\t}
}
table inet n {
\tchain p {
\t\ttype nat hook postrouting priority srcnat; policy accept;
\t\toifname "rfp-1" masquerade
\t}
}
"""


def test_rules_of_others_in_nf_tables() -> None:
    drop, reject, by_set, helper, nat = parse_nft(NFT)
    assert (drop.verdict, drop.hook, drop.selects, drop.is_conditional) == (
        "DROP",
        "FORWARD",
        {"dst": "10.1.0.5"},
        False,
    )
    assert (drop.packets, drop.place) == (4, "nft table ip t chain c")
    assert (reject.verdict, reject.selects) == ("REJECT", {"iif": "qr-1", "src": "!10.1.0.0/24"})
    assert (reject.is_conditional, reject.packets) == (True, None)
    assert by_set.selects == {"dst": "@blocked"}
    assert (helper.hook, helper.is_conditional) == ("", True)
    assert (nat.verdict, nat.selects, nat.hook) == ("MASQUERADE", {"oif": "rfp-1"}, "POSTROUTING")


@pytest.mark.parametrize(
    ("asked", "may"),
    [
        ({}, True),
        ({"dst": "10.1.0.5/32"}, True),
        ({"dst": "10.1.0.0/24"}, True),
        ({"dst": "10.1.0.6/32"}, False),
        ({"src": "10.7.0.0/16"}, False),
        ({"src": "198.51.0.0/16"}, True),
        ({"src": "!10.1.0.5/32", "dst": "10.1.0.5/32"}, True),
        ({"dst": "@set"}, True),
        ({"iif": "eth7"}, False),
        ({"iif": "qr-+"}, True),
        ({"oif": "!lo"}, True),
    ],
)
def test_a_rule_selects_the_subject_or_not(asked: dict[str, str], may: bool) -> None:
    (rule,) = parse_iptables("*filter\n[0:0] -A FORWARD -j DROP\n", "iptables")
    assert selects(FACTS, QROUTER, replace(rule, selects=asked)) is may


def test_a_rule_about_some_addresses_outside_is_no_explanation_unless_it_has_dropped() -> None:
    (rule,) = parse_iptables("*filter\n[0:0] -A FORWARD -s 198.51.0.0/16 -j DROP\n", "iptables")
    found = answer(with_namespace(filters=(rule,)))
    assert (named(found), found.is_wrong) == (None, False)
    assert "take some packets" in found.sentence
    assert rule.text in found.sentence
    assert named(answer(with_namespace(filters=(replace(rule, packets=3),)))) == "filter-drop"


def test_rules_routes_links_and_neighbours_of_ip() -> None:
    rules = list(
        parse_rules("0:\tfrom all lookup local\n101:\tfrom all blackhole\n9:\tnot from 10.0.0.0/8 iif a lookup 7\n", 4)
    )
    assert [(rule.priority, dict(rule.words)) for rule in rules] == [
        (0, {"from": "all", "lookup": "local"}),
        (101, {"from": "all", "blackhole": ""}),
        (9, {"not": "", "from": "10.0.0.0/8", "iif": "a", "lookup": "7"}),
    ]
    text = "default via 1.2.3.4 dev a table 16 proto static onlink\nblackhole 10.0.0.0/8\n"
    text += "local 1.1.1.1 dev lo table local\ndefault table 9 proto static\n\tnexthop via 1.1.1.1 dev a weight 1\n"
    routes = list(parse_routes(text, 4))
    assert [(route.type, route.dst, route.table) for route in routes] == [
        ("unicast", "default", "16"), ("blackhole", "10.0.0.0/8", "main"), ("local", "1.1.1.1", "local"),
        ("unicast", "default", "9"),
    ]  # fmt: skip
    (neighbour,) = parse_neighbours("10.1.0.5 dev qr-1 lladdr fa:16:3e:00:00:01 PERMANENT\n")
    assert (neighbour.device, neighbour.mac, neighbour.state) == ("qr-1", "fa:16:3e:00:00:01", "PERMANENT")
    links = parse_links('[{"ifname": "a", "flags": ["UP"], "mtu": 9, "address": "x", "master": "b"}, {}]')
    assert links == (LinkFacts("a", "x", 9, True, False, "b"),)
    assert "NO-CARRIER" in links[0].text
    assert parse_links("") == ()
    fdb = (
        '[{"mac": "m", "ifname": "a", "master": "b"}, {"mac": "n", "ifname": "a", "master": "b", "state": "permanent"}]'
    )
    assert parse_fdb(fdb) == {"b": {"m": ("a",)}}


def test_ports_of_open_vswitch() -> None:
    interfaces = (
        '{"headings": [], "data": [["qr-1", ["map", [["iface-id", "P"], ["attached-mac", "M"]]], ["set", []]],'
        ' ["x", ["map", []], "no"]]}'
    )
    ports = '{"headings": [], "data": [["qr-1", 5], ["x", ["set", []]]]}'
    (port,) = parse_ovs(interfaces, ports, {"P"})
    assert (port.name, port.tag, port.error, port.text, port.mac) == ("qr-1", 5, "", "Port qr-1 tag: 5", "M")


def test_arp_probes_are_told_from_answers() -> None:
    mac, target = bytes.fromhex("fa163e000001"), bytes((10, 1, 0, 5))
    frame = request(mac, target)
    assert frame.startswith(BROADCAST + mac)
    assert arp_answer(frame, target) == ""
    reply = bytearray(frame)
    reply[20:22] = b"\0\2"  # the operation
    reply[28:32] = target  # the sender's address
    assert arp_answer(bytes(reply), target) == "fa:16:3e:00:00:01"
    assert arp_answer(bytes(reply[:20]), target) == ""


def test_a_name_an_id_or_its_beginning_is_a_router() -> None:
    assert ROUTER is not None
    routers = {ROUTER.id: ("one.json", ROUTER)}
    for text in ("one", ROUTER.id, ROUTER.id[:6], ROUTER.id.upper()):
        assert find_subject(text, routers).kind is Kind.ROUTER


_POLICIES = """src 10.20.6.0/24 dst 198.51.100.0/24 
\tdir out priority 375423 ptype main 
\ttmpl src 203.0.113.106 dst 198.51.100.77
\t\tproto esp reqid 1 mode tunnel
src 10.20.6.0/24 dst 198.51.101.0/24 proto tcp dport 80 
\tdir fwd action block priority 0 ptype main 
src 10.20.7.0/24 dst 198.51.102.0/24 
\tdir out priority 0 ptype main 
\ttmpl src 203.0.113.106 dst 198.51.100.78
\t\tproto esp reqid 2 mode tunnel
\t\tlevel use 
src 0.0.0.0/0 dst 0.0.0.0/0 
\tsocket in priority 0 ptype main 
"""  # noqa: W291 - as ip prints it
_STATE = """src 203.0.113.106 dst 198.51.100.77
\tproto esp spi {spi} reqid 1 mode tunnel
\treplay-window 0 
"""  # noqa: W291 - as ip prints it


@pytest.mark.parametrize(
    ("states", "dropping"),
    [
        ("", ["out", "fwd"]),
        (_STATE.format(spi="0x00000011"), ["fwd"]),
        (_STATE.format(spi="0x00000000"), ["out", "fwd"]),
    ],
    ids=["none", "negotiated", "acquired only"],
)
def test_a_policy_drops_what_it_selects_without_a_security_association(states: str, dropping: list[str]) -> None:
    found = list(parse_policies(_POLICIES, states))
    assert [one.direction for one in found] == dropping
    assert (
        found[-1].text
        == "src 10.20.6.0/24 dst 198.51.101.0/24 proto tcp dport 80 dir fwd action block priority 0 ptype main"
    )
