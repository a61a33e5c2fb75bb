"""``dvrctl why`` names faults made on purpose on the real kernel: the sentence says which one it is."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from dvr_agent.cli.why.causes import CAUSES
from tests.support import lab
from tests.support.filter_tools import uses_nftables
from tests.support.packet_documents import Network
from tests.support.packet_world import PUBLIC
from tests.support.why_rig import BLUE, CENTRAL, FIP, GATEWAY, OTHER_FIP, WhyRig


@dataclass(frozen=True)
class Fault:
    """Commands that make a fault, and those that take back what the agent does not repair.

    :ivar says: what the sentence has to contain
    :ivar fades: the kernel takes it back by itself, sooner or later (a neighbour that has failed, a frame that teaches)
    """

    cause: str
    says: str
    damage: tuple[str, ...]
    undo: tuple[str, ...] = ()
    subject: str = FIP
    probe: bool = field(default=False)
    fades: bool = False


OUT = f"all 3 floating IPs that this host has in external network {PUBLIC.id} are out"
WRONG_MAC = "fa:16:3e:00:00:aa"
TRIES = 5
"""For a fault that fades."""
IN_Q, IN_F = "ip netns exec {Q} ", "ip netns exec {F} "
TABLES = "iptables-legacy -w "
TRANSLATIONS = (
    {
        "dnat": Fault("nat-missing", FIP, (IN_Q + "nft delete element ip dvr fip_in '{ {fip} }'",)),
        "snat": Fault(
            "nat-missing", "fip_out { 10.1.0.5 :", (IN_Q + "nft delete element ip dvr fip_out '{ 10.1.0.5 }'",)
        ),
    }
    if uses_nftables()
    else {
        "dnat": Fault(
            "nat-missing", FIP, (IN_Q + TABLES + "-t nat -D dvr-PREROUTING -d {fip} -i {rfp} -j DNAT --to 10.1.0.5",)
        ),
        "snat": Fault(
            "nat-missing",
            "-s 10.1.0.5/32 -j SNAT",
            (IN_Q + TABLES + "-t nat -D dvr-POSTROUTING -s 10.1.0.5 -j SNAT --to {fip} --random-fully",),
        ),
    }
)
"""By the packet filter in use."""
FAULTS = TRANSLATIONS | {
    # Objects of ours that another program has removed or changed; nothing repairs them without the daemon.
    "rule": Fault("rule-missing", "from 10.1.0.5/32 lookup 16", ("ip -n {Q} rule del from 10.1.0.5 lookup 16",)),
    "table 16": Fault("route-missing", "table 16", ("ip -n {Q} route flush table 16",)),
    "connected route": Fault("route-missing", "10.1.0.0/24 dev qr-", ("ip -n {Q} route del 10.1.0.0/24 dev {qr}",)),
    "flushed device": Fault("route-missing", "fpr-", ("ip -n {F} route flush dev {fpr}",)),
    "next hop": Fault("route-wrong", "table 16", ("ip -n {Q} route replace default via 10.1.0.6 dev {qr} table 16",)),
    "fip route": Fault("route-missing", f"{FIP}/32 via", ("ip -n {F} route del {fip}/32",)),
    "fip table": Fault("route-missing", "default via 203.0.113.1", ("ip -n {F} route flush table {N}",)),
    "fip rule": Fault("rule-missing", "iif fpr-", ("ip -n {F} rule del iif {fpr}",)),
    "proxy arp": Fault("proxy-arp", "fg-", (IN_F + "sysctl -qw net.ipv4.conf.{fg}.proxy_arp=0",)),
    "forwarding": Fault("forwarding-off", "qrouter-", (IN_Q + "sysctl -qw net.ipv4.ip_forward=0",)),
    "neighbour": Fault(
        "neighbour-wrong",
        "10.1.0.5",
        ("ip -n {Q} neigh replace 10.1.0.5 lladdr fa:16:3e:00:00:99 dev {qr} nud permanent",),
    ),
    "no neighbour": Fault("neighbour-wrong", "10.1.0.5", ("ip -n {Q} neigh del 10.1.0.5 dev {qr}",)),
    "address": Fault("address-missing", "10.1.0.1/24", ("ip -n {Q} addr del 10.1.0.1/24 dev {qr}",)),
    "pair": Fault("link-missing", "rfp-", ("ip -n {Q} link del {rfp}",)),
    "link down": Fault("link-down", "rfp-", ("ip -n {Q} link set {rfp} down",)),
    "mtu": Fault("link-wrong", "mtu 1400", ("ip -n {Q} link set {rfp} mtu 1400",)),
    "namespace": Fault("namespace-missing", "qrouter-", ("ip netns del {Q}",)),
    # Layer 2 of the host.
    "tap off": Fault("port-unplugged", "is not on bridge", ("ip link set {tapqr} nomaster",)),
    "tap down": Fault("port-unplugged", "is down", ("ip link set {tapfg} down",)),
    "tap mtu": Fault("port-unplugged", "MTU 1300", ("ip link set {tapqr} mtu 1300",)),
    "bridge down": Fault("bridge-down", OUT, ("ip link set br-ex down",), ("ip link set br-ex up",)),
    "own bridge down": Fault("bridge-down", "brq", ("ip link set {brq} down",)),
    "uplink down": Fault("no-uplink", f"down; {OUT}", ("ip link set {uplink} down",), ("ip link set {uplink} up",)),
    "uplink carrier": Fault(
        "no-uplink",
        "has no carrier",
        ("ip -n internet link set eth0 down",),
        ("ip -n internet link set eth0 up",),
    ),
    "bridge mtu": Fault("bridge-mtu", "1280", ("ip link set {uplink} mtu 1280",), ("ip link set {uplink} mtu 1500",)),
    "instance down": Fault("instance-port-down", "is down", ("ip link set {tap1} down",), ("ip link set {tap1} up",)),
    "instance off": Fault(
        "instance-off-bridge", "is on no bridge", ("ip link set {tap1} nomaster",), ("ip link set {tap1} master {brq}",)
    ),
    "instance on another bridge": Fault(
        "instance-off-bridge",
        "is on bridge br-ex; it must be on bridge brq",
        ("ip link set {tap1} master br-ex",),
        ("ip link set {tap1} master {brq}",),
    ),
    "instance mtu": Fault("instance-mtu", "1200", ("ip link set {tap1} mtu 1200",), ("ip link set {tap1} mtu 1450",)),
    "mac elsewhere": Fault(
        "mac-elsewhere",
        "tap",
        ("bridge fdb replace {mac1} dev {tapqr} master dynamic",),
        ("ip link set {brq} type bridge fdb_flush",),
        fades=True,
    ),
    "instance mac": Fault(
        "instance-mac",
        WRONG_MAC,
        ("ip -n vm1 link set eth0 address {wrong_mac}",),
        ("ip -n vm1 link set eth0 address {mac1}",),
    ),
    "instance mac, probed": Fault(
        "instance-mac",
        "for 10.1.0.5 (as the neighbour entry in qrouter-",
        ("ip -n vm1 link set eth0 address {wrong_mac}",),
        ("ip -n vm1 link set eth0 address {mac1}",),
        subject="10.1.0.5",
        probe=True,
    ),
    "instance mac behind a device of any name": Fault(
        "instance-mac",
        "strange1 (port of bridge brq",
        ("ip link set {tap1} name strange1", "ip -n vm1 link set eth0 address {wrong_mac}"),
        ("ip link set strange1 name {tap1}", "ip -n vm1 link set eth0 address {mac1}"),
    ),
    "instance mac of a tap device": Fault(
        "instance-mac",
        "fa:16:3e:00:00:99",
        (
            "ip link set {tap1} name strange1",
            "ip tuntap add dev {tap1} mode tap",
            "ip link set {tap1} address fe:16:3e:00:00:99 master {brq} up",
        ),
        ("ip link del {tap1}", "ip link set strange1 name {tap1}"),
    ),
    # Other programs in our namespaces.
    "rule before": Fault(
        "rule-before",
        "100: from 10.1.0.0/24 lookup 500",
        (
            "ip -n {Q} route add default via 10.1.0.6 dev {qr} table 500",
            "ip -n {Q} rule add priority 100 from 10.1.0.0/24 lookup 500",
        ),
        ("ip -n {Q} rule del priority 100", "ip -n {Q} route flush table 500"),
    ),
    "discarding rule": Fault(
        "rule-before",
        "101: from all blackhole",
        ("ip -n {F} rule add priority 101 blackhole",),
        ("ip -n {F} rule del priority 101",),
    ),
    "blackhole in table 16": Fault(
        "blackhole",
        "blackhole default table 16",
        ("ip -n {Q} route flush table 16", "ip -n {Q} route add blackhole default table 16"),
        ("ip -n {Q} route del blackhole default table 16",),
    ),
    "throw": Fault(
        "foreign-route",
        "throw default table 16",
        ("ip -n {Q} route flush table 16", "ip -n {Q} route add throw default table 16"),
        ("ip -n {Q} route del throw default table 16",),
    ),
    "blackhole of the fip": Fault(
        "blackhole",
        f"unreachable {FIP}",
        ("ip -n {F} route del {fip}/32", "ip -n {F} route add unreachable {fip}"),
        ("ip -n {F} route del unreachable {fip}",),
    ),
    "foreign route": Fault(
        "foreign-route",
        "10.1.0.5 via 10.1.0.6",
        ("ip -n {Q} route add 10.1.0.5/32 via 10.1.0.6 dev {qr} proto bird",),
        ("ip -n {Q} route del 10.1.0.5/32 via 10.1.0.6",),
    ),
    "foreign route for some destinations": Fault(
        "foreign-route",
        "elsewhere, only for 192.0.2.0/24: 192.0.2.0/24 via 203.0.113.77",
        ("ip -n {S} route add 192.0.2.0/24 via 203.0.113.77 dev {qg} proto bird",),
        ("ip -n {S} route del 192.0.2.0/24 via 203.0.113.77",),
        subject="10.1.0.7",
    ),
    "foreign route for some destinations, distributed": Fault(
        "foreign-route",
        "elsewhere, only for 192.0.2.0/24: 192.0.2.0/24 via 10.1.0.6",
        ("ip -n {Q} route add 192.0.2.0/24 via 10.1.0.6 dev {qr} proto bird",),
        ("ip -n {Q} route del 192.0.2.0/24 via 10.1.0.6",),
    ),
    "foreign rule in the SNAT namespace": Fault(
        "rule-before",
        "(only for 192.0.2.0/24)",
        ("ip -n {S} rule add priority 100 to 192.0.2.0/24 blackhole",),
        ("ip -n {S} rule del priority 100",),
        subject="10.1.0.7",
    ),
    "legacy drop": Fault(
        "filter-drop",
        "-A FORWARD -d 10.1.0.5/32 -j DROP",
        (IN_Q + TABLES + "-A FORWARD -d 10.1.0.5 -j DROP",),
        (IN_Q + TABLES + "-D FORWARD -d 10.1.0.5 -j DROP",),
    ),
    "nft drop": Fault(
        "filter-drop",
        "ip daddr 203.0.113.10",
        (
            IN_F + "nft 'add table ip t; add chain ip t c { type filter hook prerouting priority 0; };"
            " add rule ip t c ip daddr 203.0.113.10 counter drop'",
        ),
        (IN_F + "nft delete table ip t",),
    ),
    "policy": Fault(
        "filter-policy",
        "the policy is drop",
        (IN_Q + "nft 'add table ip t; add chain ip t c { type filter hook forward priority 0; policy drop; }'",),
        (IN_Q + "nft delete table ip t",),
    ),
    "foreign nat": Fault(
        "foreign-nat",
        "--to-destination 10.1.0.6",
        (IN_Q + TABLES + "-t nat -I PREROUTING -d {fip} -j DNAT --to 10.1.0.6",),
        (IN_Q + TABLES + "-t nat -D PREROUTING -d {fip} -j DNAT --to 10.1.0.6",),
    ),
    "strict rp_filter": Fault(
        "rp-filter",
        "rp_filter is 1",
        (IN_Q + "sysctl -qw net.ipv4.conf.all.rp_filter=1",),
        (IN_Q + "sysctl -qw net.ipv4.conf.all.rp_filter=0",),
    ),
    "host policy": Fault(
        "host-filter",
        "the policy of FORWARD is DROP",
        ("sysctl -qw net.bridge.bridge-nf-call-iptables=1", TABLES + "-P FORWARD DROP"),
        (TABLES + "-P FORWARD ACCEPT", "sysctl -qw net.bridge.bridge-nf-call-iptables=0"),
    ),
    "host rule": Fault(
        "host-filter",
        "-s 10.1.0.5/32 -j REJECT",
        ("sysctl -qw net.bridge.bridge-nf-call-iptables=1", TABLES + "-A FORWARD -s 10.1.0.5 -j REJECT"),
        (TABLES + "-D FORWARD -s 10.1.0.5 -j REJECT", "sysctl -qw net.bridge.bridge-nf-call-iptables=0"),
    ),
    "bridge family": Fault(
        "host-filter",
        "nft table bridge t",
        (
            "nft add table bridge t",
            "nft 'add chain bridge t c { type filter hook forward priority 0; }'",
            "nft add rule bridge t c ip daddr 10.1.0.5 drop",
        ),
        ("nft delete table bridge t",),
    ),
    "arp family": Fault(
        "filter-drop",
        "nft table arp filter chain INPUT: arp operation request arp daddr ip 203.0.113.10",
        (
            IN_F + "nft 'add table arp filter; add chain arp filter INPUT { type filter hook input priority 0; };"
            " add rule arp filter INPUT arp operation request arp daddr ip 203.0.113.10 counter drop'",
        ),
        (IN_F + "nft delete table arp filter",),
    ),
    "policy of the arp family": Fault(
        "filter-drop",
        "nft table arp t chain c: policy drop",
        (IN_Q + "nft 'add table arp t; add chain arp t c { type filter hook output priority 0; policy drop; }'",),
        (IN_Q + "nft delete table arp t",),
    ),
    "netdev family": Fault(
        "filter-drop",
        "nft table netdev t chain c: ip daddr 203.0.113.10",
        (
            IN_F + "nft 'add table netdev t;"
            ' add chain netdev t c { type filter hook ingress device "{fg}" priority 0; };'
            " add rule netdev t c ip daddr 203.0.113.10 drop'",
        ),
        (IN_F + "nft delete table netdev t",),
    ),
    "netdev family on the host": Fault(
        "host-filter",
        "nft table netdev t chain c: arp daddr ip 203.0.113.10",
        (
            (
                "nft 'add table netdev t;"
                " add chain netdev t c { type filter hook ingress devices = { {uplink}, {tapqr} } priority 0; };"
                " add rule netdev t c arp daddr ip 203.0.113.10 drop'"
            ),
        ),
        ("nft delete table netdev t",),
    ),
    "ARP in the bridge family": Fault(
        "host-filter",
        "nft table bridge t chain c: iifname",
        (
            (
                "nft 'add table bridge t; add chain bridge t c { type filter hook forward priority 0; };"
                ' add rule bridge t c iifname "{uplink}" ether type arp drop\''
            ),
        ),
        ("nft delete table bridge t",),
    ),
    "IPsec policy": Fault(
        "ipsec-policy",
        "drops the packets to and from 198.51.100.0/24 only",
        (
            (
                "ip -n {Q} xfrm policy add src 10.1.0.0/24 dst 198.51.100.0/24 dir out"
                " tmpl src 203.0.113.3 dst 198.51.100.77 proto esp reqid 1 mode tunnel"
            ),
        ),
        ("ip -n {Q} xfrm policy delete src 10.1.0.0/24 dst 198.51.100.0/24 dir out",),
    ),
    "isolated ports": Fault(
        "port-isolated",
        "so nothing passes between {qr} and the instance",
        ("bridge link set dev {tapqr} isolated on", "bridge link set dev {tap1} isolated on"),
        ("bridge link set dev {tapqr} isolated off", "bridge link set dev {tap1} isolated off"),
    ),
    "isolated ports, of the router": Fault(
        "port-isolated",
        "{tap1}",
        ("bridge link set dev {tapqr} isolated on", "bridge link set dev {tap1} isolated on"),
        ("bridge link set dev {tapqr} isolated off", "bridge link set dev {tap1} isolated off"),
        subject="one",
    ),
    "isolated from the uplink": Fault(
        "port-isolated",
        "so nothing passes between {fg} and the outside",
        ("bridge link set dev {tapfg} isolated on", "bridge link set dev {uplink} isolated on"),
        ("bridge link set dev {tapfg} isolated off", "bridge link set dev {uplink} isolated off"),
    ),
    "locked port": Fault(
        "port-closed",
        "it is locked, and its bridge has no entry for {mac1}",
        ("bridge link set dev {tap1} locked on", "ip link set {brq} type bridge fdb_flush"),
        ("bridge link set dev {tap1} locked off",),
    ),
    "disabled port": Fault(
        "port-closed",
        "it is disabled",
        ("bridge link set dev {tap1} state disabled",),
        ("bridge link set dev {tap1} state forwarding",),
    ),
    # Connections and neighbours.
    "old connection": Fault(
        "conntrack-old",
        f"dst={FIP}",
        (
            IN_Q
            + "conntrack -I -p udp -t 300 -s 198.51.100.9 -d {fip} --sport 1111 --dport 53 -r 10.1.0.6 -q 198.51.100.9"
            " --reply-port-src 53 --reply-port-dst 1111 --status ASSURED,SEEN_REPLY",
        ),
        (IN_Q + "conntrack -F",),
    ),
    "silent gateway": Fault(
        "gateway-silent",
        "203.0.113.1 ",
        ("ip -n {F} neigh replace 203.0.113.1 dev {fg} nud failed",),
        ("ip -n {F} neigh flush dev {fg}",),
        fades=True,
    ),
    "silent instance": Fault(
        "instance-silent",
        "10.1.0.5",
        ("ip -n vm1 link set eth0 arp off",),
        ("ip -n vm1 link set eth0 arp on", "ip -n vm1 route replace default via 10.1.0.1"),
        probe=True,
    ),
    "two instances with one address": Fault(
        "address-elsewhere",
        "it is eth0 in vm2, behind port {tap2} of bridge {brq}",
        ("ip -n vm2 addr add 10.1.0.5/32 dev eth0",),
        ("ip -n vm2 addr del 10.1.0.5/32 dev eth0",),
    ),
    "another owner on this host": Fault(
        "address-elsewhere",
        "it is eth0 in internet, behind port {uplink} of bridge br-ex",
        ("ip -n internet addr add 203.0.113.12/32 dev eth0",),
        ("ip -n internet addr del 203.0.113.12/32 dev eth0",),
        subject=CENTRAL,
    ),
    "another owner of the gateway address": Fault(
        "address-elsewhere",
        "it is eth0 in internet",
        ("ip -n internet addr add 203.0.113.3/32 dev eth0",),
        ("ip -n internet addr del 203.0.113.3/32 dev eth0",),
        subject=GATEWAY,
    ),
    "another owner beyond a bridge port": Fault(
        "address-elsewhere",
        "MAC address fa:16:3e:00:00:77; it is behind port {uplink} of bridge br-ex",
        (
            "ip netns add stranger",
            "ip -n internet link add link eth0 name mv0 netns stranger address fa:16:3e:00:00:77 type macvlan",
            "ip -n stranger addr add {fip}/32 dev mv0",
            "ip -n stranger link set mv0 up",
        ),
        ("ip netns del stranger",),
        probe=True,
    ),
    "another owner": Fault(
        "address-elsewhere",
        FIP,
        ("ip -n internet addr add {fip}/32 dev eth0",),
        ("ip -n internet addr del {fip}/32 dev eth0",),
        probe=True,
    ),
    # The central side.
    "central address": Fault(
        "address-missing", CENTRAL, ("ip -n {S} addr del 203.0.113.12/32 dev {qg}",), subject=CENTRAL
    ),
    "gateway address": Fault(
        "address-missing", GATEWAY, ("ip -n {S} addr del 203.0.113.3/24 dev {qg}",), subject=GATEWAY
    ),
    "the router": Fault("rule-missing", "lookup 16", ("ip -n {Q} rule del from 10.1.0.5 lookup 16",), subject="one"),
    "another's part": Fault(
        "rest-differs", "is in place", ("ip -n {Q} rule del from 10.1.0.5 lookup 16",), subject=OTHER_FIP
    ),
}


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WhyRig]:
    with lab.fresh_host() as host:
        yield WhyRig(host, tmp_path_factory.mktemp("why"))


def test_the_command_of_the_advice_removes_the_rule_of_another_program(rig: WhyRig) -> None:
    namespace = rig.names["Q"]
    lab.run("ip", "-n", namespace, "route", "add", "blackhole", "default", "table", "220")
    lab.run("ip", "-n", namespace, "rule", "add", "priority", "100", "from", "10.1.0.5", "lookup", "220")
    found = rig.why(FIP)
    command = found.advice.split("`")[1]
    lab.run(*shlex.split(command))
    after = rig.why(FIP)
    lab.run("ip", "-n", namespace, "route", "flush", "table", "220")
    assert "its table 220 has a blackhole default route" in found.sentence
    assert "more line" not in found.sentence
    assert command.startswith(f"ip -n {namespace} rule del ")
    assert after.cause is None, after.sentence


def test_ports_that_a_bridge_which_is_down_disables_are_no_fault_of_their_own(rig: WhyRig) -> None:
    lab.run("ip", "link", "set", "br-ex", "down")
    found = rig.why(FIP)
    lab.run("ip", "link", "set", "br-ex", "up")
    assert found.cause is not None
    assert found.cause.key == "bridge-down"
    assert any(step.cause is not None and step.cause.key == "port-closed" for step in found.steps)
    assert "more line" not in found.sentence


@pytest.mark.parametrize("name", FAULTS)
def test_the_sentence_names_the_fault(rig: WhyRig, name: str) -> None:
    fault = FAULTS[name]
    words = rig.names
    try:
        for _ in range(TRIES):
            for command in fault.damage:
                lab.run(*shlex.split(_filled(command, words)))
            found = rig.why(fault.subject, fault.probe)
            if found.cause is not None or not fault.fades:
                break
    finally:
        for command in fault.undo:
            lab.run(*shlex.split(_filled(command, words)))
        rig.repair()
    assert found.cause is not None, found.steps
    assert (found.cause.key, _filled(fault.says, words) in found.sentence) == (fault.cause, True), found.sentence
    assert found.is_wrong


def _filled(command: str, words: dict[str, str]) -> str:
    for word, value in words.items():
        command = command.replace("{" + word + "}", value)
    return command


def test_nothing_is_wrong_where_nothing_is(rig: WhyRig) -> None:
    for subject in (FIP, CENTRAL, GATEWAY, "10.1.0.5", "10.1.0.1", "one", rig.router.id[:8]):
        found = rig.why(subject)
        assert (found.cause, found.is_wrong) == (None, False), (subject, found.sentence)


def test_the_command_of_the_advice_deletes_the_one_old_connection_only(rig: WhyRig) -> None:
    namespace = rig.names["Q"]
    for port, instance in (("1111", "10.1.0.99"), ("1112", "10.1.0.5")):
        tuples = f"-p udp -t 300 -s 198.51.100.9 -d {FIP} --sport {port} --dport 5060 -r {instance} -q 198.51.100.9"
        replies = f"--reply-port-src 5060 --reply-port-dst {port} --status ASSURED,SEEN_REPLY"
        lab.run("ip", "netns", "exec", namespace, "conntrack", "-I", *tuples.split(), *replies.split())
    found = rig.why(FIP)
    command = found.advice.split("`")[1]
    lab.run(*shlex.split(command))
    left = lab.run("ip", "netns", "exec", namespace, "conntrack", "-L", "-d", FIP)
    lab.run("ip", "netns", "exec", namespace, "conntrack", "-F")
    assert f"udp from 198.51.100.9 port 1111 to {FIP} port 5060 still goes to 10.1.0.99" in found.sentence
    assert command.endswith(f"conntrack -D -p udp -s 198.51.100.9 -d {FIP} --sport 1111 --dport 5060")
    assert ("sport=1111" in left, "sport=1112" in left) == (False, True)


def test_an_isolated_router_port_alone_is_no_fault(rig: WhyRig) -> None:
    lab.run("bridge", "link", "set", "dev", rig.names["tapqr"], "isolated", "on")
    found = rig.why(FIP)
    lab.run("bridge", "link", "set", "dev", rig.names["tapqr"], "isolated", "off")
    assert found.cause is None, found.sentence


def test_rules_below_ip_about_others_are_no_explanation(rig: WhyRig) -> None:
    names = rig.names
    rules = (
        "add table netdev t",
        f'add chain netdev t c {{ type filter hook ingress device "{rig.names["tap2"]}" priority 0; policy drop; }}',
        "add table bridge t",
        "add chain bridge t c { type filter hook forward priority 0; }",
        "add rule bridge t c ether saddr 02:00:00:00:00:99 drop",
        "add chain bridge t neutronMAC-tap1",
        "add rule bridge t neutronMAC-tap1 drop",
        "add table bridge u",
        "add chain bridge u c { type filter hook forward priority 0; policy drop; }",
        "add rule bridge u c accept",
        "add chain bridge t other",
        "add rule bridge t other drop",
    )
    lab.run("nft", "; ".join(rules))
    lab.run("ip", "-n", names["Q"], "xfrm", "policy", "add", "src", "10.1.0.6", "dst", "198.51.100.0/24", "dir", "out",
            "action", "block")  # fmt: skip
    lab.run("ip", "netns", "exec", names["F"], "nft", "add table arp t; add chain arp t c { type filter hook input"
            f" priority 0; }}; add rule arp t c arp daddr ip {OTHER_FIP} drop")  # fmt: skip
    found = rig.why(FIP)
    lab.run(
        "ip", "netns", "exec", names["F"], "nft", "flush chain arp t c; add rule arp t c arp daddr ip 203.0.113.99 drop"
    )
    whole = rig.why("one")
    lab.run("nft", "delete table netdev t; delete table bridge t; delete table bridge u")
    lab.run("ip", "-n", names["Q"], "xfrm", "policy", "flush")
    lab.run("ip", "netns", "exec", names["F"], "nft", "delete table arp t")
    assert (found.cause, found.is_wrong) == (None, False), found.sentence
    assert not [step for step in whole.steps if step.step == "filter" and step.verdict.value == "wrong"]


def test_every_cause_of_a_fault_here_is_in_the_registry() -> None:
    assert {fault.cause for fault in FAULTS.values()} <= {cause.key for cause in CAUSES}


def floating_ips(rig: WhyRig, **changed: object) -> list[dict[str, object]]:
    """The floating IPs of the router's document, the first of them changed."""
    first, *others = rig.router.envelope()["router"]["_floatingips"]
    return [first | changed, *others]


@pytest.mark.parametrize("host", ["node3", ""])
def test_an_instance_that_the_document_has_elsewhere_is_seen_on_this_host(rig: WhyRig, host: str) -> None:
    tap, mac = rig.tap(rig.one), rig.one.mac
    with rig.document(_floatingips=floating_ips(rig, host=host)):
        found = rig.why(FIP)
        lab.run("ip", "link", "set", tap, "name", "strange1")
        by_mac = rig.why(FIP)
        lab.run("ip", "-n", "vm1", "link", "set", "eth0", "address", WRONG_MAC)
        unseen = rig.why(FIP)
        lab.run("ip", "-n", "vm1", "link", "set", "eth0", "address", mac)
        lab.run("ip", "link", "set", "strange1", "name", tap)
    for answer, device in ((found, tap), (by_mac, "strange1")):
        assert answer.cause is not None
        assert (answer.cause.key, answer.is_wrong) == ("instance-here", True), answer.sentence
        assert f"binds its port to {f'host {host}' if host else 'no host'}" in answer.sentence
        assert f"with MAC address {mac} is connected to this host by {device} (port of bridge {BLUE.bridge})" in (
            answer.sentence
        )
    assert unseen.cause is not None
    assert unseen.cause.key == ("other-host" if host else "unbound-port")


def test_a_neighbour_entry_of_another_machine_is_a_hint(rig: WhyRig) -> None:
    names = rig.names
    entry = ("neigh", "replace", FIP, "lladdr", "fa:16:3e:00:00:99", "dev", names["fg"], "nud", "stale")
    lab.run("ip", "-n", names["F"], *entry)
    lab.run("bridge", "fdb", "replace", "fa:16:3e:00:00:99", "dev", names["uplink"], "master", "dynamic")
    found = rig.why(FIP)
    probed = rig.why(FIP, probe=True)
    lab.run("ip", "-n", names["F"], "neigh", "flush", "dev", names["fg"])
    assert found.cause is not None
    assert (found.cause.key, found.is_wrong) == ("address-claimed", False), found.sentence
    assert f"behind port {names['uplink']} of bridge br-ex" in found.sentence
    assert probed.cause is None, probed.sentence


def test_the_uplink_of_another_network_is_no_explanation(rig: WhyRig) -> None:
    (outer,) = [link["ifname"] for link in lab.ip_json("link", "show", "master", "br-scoped")]
    lab.run("ip", "link", "set", outer, "down")
    found = rig.why(FIP)
    lab.run("ip", "link", "set", outer, "up")
    assert (found.cause, found.is_wrong) == (None, False), found.sentence
    assert [step.text for step in found.steps if "br-scoped" in step.text and "not on this path" in step.text]


def test_the_mac_address_of_an_ipv6_instance_is_compared(rig: WhyRig) -> None:
    network = Network("six", ("2001:db8:6::/64",))
    vm = rig.world.cloud.vm("vm6", network, "2001:db8:6::5")
    router = rig.world.cloud.router("six", network)
    rig.write(router)
    rig.world.apply(router)
    rig.world.boot(vm)
    right = rig.why("2001:db8:6::5")
    lab.run("ip", "-n", "vm6", "link", "set", "eth0", "address", WRONG_MAC)
    wrong = rig.why("2001:db8:6::5")
    rig.world.remove(router)
    (rig.documents / f"{router.name}.json").unlink()
    lab.run("ip", "netns", "del", "vm6")
    assert not right.is_wrong, right.sentence
    assert wrong.cause is not None
    assert wrong.cause.key == "instance-mac", wrong.sentence
    assert f"The document has MAC address {vm.mac} for 2001:db8:6::5 (as the neighbour entry" in wrong.sentence
    assert wrong.sentence.endswith(f"the instance has {WRONG_MAC}.")
