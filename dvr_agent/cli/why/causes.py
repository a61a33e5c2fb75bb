"""All faults that ``dvrctl why`` can name, each with its sentence and what to do.  The first in this list wins.

The order is that of the root cause: what a document says comes before what follows from it in the kernel, and a link
that is down before a neighbour that does not answer.  ``docs/troubleshooting.md`` is checked against this list
(``tests/unit/test_why_page.py``), so a new cause needs its row there.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Symptom(Enum):
    """What an operator sees; the headings of ``docs/troubleshooting.md``."""

    NOTHING = "Nothing of the router or address is on this host"
    NEW = "A new or changed floating IP does not work"
    ADDRESS = "An address does not answer from outside"
    INSTANCE = "An instance does not answer, or has no way out"
    SOME = "Only some packets or connections fail"
    SERVICES = "No metadata, no router advertisements, no fail-over"
    SERVER = "Neutron shows another state than the host"


@dataclass(frozen=True, slots=True)
class Cause:
    """A fault.

    :ivar key: identifies it, in JSON and in the documentation
    :ivar sentence: explains it; ``{name}`` stands for values of the step, ``{subject}`` for the subject of the question
    :ivar advice: what to do
    """

    key: str
    symptom: Symptom
    sentence: str
    advice: str


CAUSES: list[Cause] = []
"""All causes; the first one that a step shows is the explanation."""


def _cause(key: str, symptom: Symptom, sentence: str, advice: str) -> Cause:
    cause = Cause(key, symptom, sentence, advice)
    CAUSES.append(cause)
    return cause


# --- what the documents say ---

DOCUMENT_REFUSED = _cause(
    "document-refused",
    Symptom.NEW,
    "The newest document of router {router} is refused: {reason}.{kept}",
    "Correct the document (`dvrctl check {file}` shows whether it is right); until then the router stays as it was.",
)
HELD_BACK = _cause(
    "held-back",
    Symptom.NOTHING,
    "Router {router} has no document any more, and the guard of the stale sweep holds its removal back: {reason}.",
    "Check the source of the documents; `dvrctl cleanup` confirms the removal.",
)
NO_DOCUMENT = _cause(
    "no-document",
    Symptom.NOTHING,
    "No router document of this host has {subject} ({near}).",
    "Check in Neutron to which router and host it belongs; `dvrctl show fips` lists what this host has.",
)
KERNEL_ONLY = _cause(
    "kernel-only",
    Symptom.NOTHING,
    "No router document has {subject} any more, but it is still in the kernel: {near}.",
    "{sweep}",
)
ROUTER_DOWN = _cause(
    "router-down",
    Symptom.NOTHING,
    "Router {router} is administratively down (admin_state_up is false), so it has no namespaces.",
    "`openstack router set --enable`.",
)
LEFT_ALONE = _cause(
    "left-alone",
    Symptom.NOTHING,
    "Router {router} is not built on this host: {reason}.",
    "Ask the host that the reason names: `dvrctl why` there.",
)
LEFT_OUT = _cause(
    "left-out",
    Symptom.NEW,
    "{subject} is left out of router {router}: {reason}.",
    "Correct the value in Neutron (or in the document); the rest of the router is built meanwhile.",
)
CLAIM_LOST = _cause(
    "claim-lost",
    Symptom.NEW,
    "Router {router} is built without its {what}: {holder} claims it, too, and has it, since {rule}.",
    "Remove it from one of the two documents (`dvrctl check` of both shows key and value); the other router gets it at "
    "once.",
)
INSTANCE_HERE = _cause(
    "instance-here",
    Symptom.NOTHING,
    "{subject} is not built here, since the document binds its port to {bound}; but the instance with MAC address "
    "{mac} is connected to this host by {device}: the document or the port's binding is stale.",
    "Compare with `openstack port show {port}` (binding_host_id): if it is this host, the document is old "
    "(`dvrctl sync {router}`); if the instance is on another host, {name} is left over: remove it.",
)
OTHER_HOST = _cause(
    "other-host",
    Symptom.NOTHING,
    "{subject} is not built here: its port is on host {host}.",
    "Run `dvrctl why {subject}` on {host}.",
)
SNAT_ELSEWHERE = _cause(
    "snat-elsewhere",
    Symptom.NOTHING,
    "{subject} belongs to the SNAT namespace of router {router}, which is on host {host}.",
    "Run `dvrctl why {subject}` on {host}.",
)
NO_SNAT_HOST = _cause(
    "no-snat-host",
    Symptom.NOTHING,
    "{subject} belongs to the SNAT namespace of router {router}, which no host has (gw_port_host is empty).",
    "Check in Neutron that an L3 agent in mode dvr_snat is alive, and reschedule the router.",
)
UNBOUND_PORT = _cause(
    "unbound-port",
    Symptom.NEW,
    "The port of {subject} is bound to no host (host is empty), so no host builds the floating IP.",
    "Check in Neutron why port binding failed (`openstack port show`: binding_vif_type).",
)
NO_GATEWAY = _cause(
    "no-gateway",
    Symptom.NEW,
    "Router {router} has no external gateway, so nothing of it reaches the outside.",
    "`openstack router set --external-gateway NETWORK`.",
)
NO_AGENT_GATEWAY = _cause(
    "no-agent-gateway",
    Symptom.NEW,
    "{subject} is bound here, but this host has no way to the external network: {reason}.",
    "Check in Neutron that this host's agent has an agent gateway port in the external network "
    "(addresses may be used up), and agent_mode.",
)
PORT_DOWN_IN_DOCUMENT = _cause(
    "port-admin-down",
    Symptom.INSTANCE,
    "Port {port} is administratively down in Neutron, so its device is not built or not served.",
    "`openstack port set --enable {port}`.",
)
ADDRESS_TWICE = _cause(
    "address-twice",
    Symptom.SOME,
    "Two ports of one subnet have the fixed address {address}: {ports}.",
    "Give one of the ports another address; until then packets go to only one of them.",
)
NO_SUBNET_GATEWAY = _cause(
    "no-subnet-gateway",
    Symptom.ADDRESS,
    "The external subnet has no gateway (gateway_ip is empty), so there is no default route to the outside.",
    "`openstack subnet set --gateway ADDRESS`.",
)

# --- the daemon ---

FIGHT = _cause(
    "fight",
    Symptom.SOME,
    "Another program changes an object of router {router} again and again: {reason}.",
    "Stop that program{hint}; dvr-agent repairs at growing intervals only.",
)
TABLE_LOCK = _cause(
    "table-lock",
    Symptom.NEW,
    "Jobs wait for the lock of iptables programs: {reason}.",
    "End the process that holds /run/xtables.lock (`fuser -v /run/xtables.lock`), if it does not end by itself.",
)
NOT_COMPARED = _cause(
    "not-compared",
    Symptom.SOME,
    "This host could not be compared with the document of router {router}: {reason}.",
    "Mend that first: it also keeps dvr-agent from working on the router.",
)

# --- others stop the traffic ---

RULE_BEFORE = _cause(
    "rule-before",
    Symptom.ADDRESS,
    "A routing rule of another program comes before ours in {namespace}: {object}; {effect}.",
    "Remove it: `{command}`, and find out which program adds it.",
)
BLACKHOLE = _cause(
    "blackhole",
    Symptom.ADDRESS,
    "A route of another program in {namespace} discards the packets{scope}: {object}.",
    "Remove it: `ip -n {namespace} route del {route}`.",
)
FOREIGN_ROUTE = _cause(
    "foreign-route",
    Symptom.ADDRESS,
    "A route of another program in {namespace} leads the packets elsewhere{scope}: {object}{hop}.",
    "Remove it: `ip -n {namespace} route del {route}`.",
)
IPSEC_POLICY = _cause(
    "ipsec-policy",
    Symptom.SOME,
    "An IPsec policy of another program in {namespace} drops the packets {peers}: {object}; {why}.",
    "Remove it if no VPN service of this router uses it: `ip -n {namespace} xfrm policy delete {selector}`; else look "
    "why that service negotiates no security association.",
)
FOREIGN_NAT = _cause(
    "foreign-nat",
    Symptom.ADDRESS,
    "A NAT rule of another program in {namespace} takes the packets: {object}.",
    "Remove it; the first NAT rule that matches decides.",
)
FILTER_DROP = _cause(
    "filter-drop",
    Symptom.ADDRESS,
    "A packet filter rule of another program in {namespace} drops the packets: {object}.",
    "Remove it, and find out which program adds it.",
)
FILTER_POLICY = _cause(
    "filter-policy",
    Symptom.ADDRESS,
    "Another program's packet filter drops what is forwarded: {text}.",
    "Set the policy back to accept in this namespace.",
)
HOST_FILTER = _cause(
    "host-filter",
    Symptom.INSTANCE,
    "The host's own packet filter drops packets in bridges: {text}.",
    "Accept them there; of iptables, net.bridge.bridge-nf-call-iptables = 0 is the other way if no security groups "
    "need it.",
)
RP_FILTER = _cause(
    "rp-filter",
    Symptom.SOME,
    "Reverse path filtering is strict: {text}.",
    "`ip netns exec {namespace} sysctl -w net.ipv4.conf.all.rp_filter=2` (loose).",
)
CONNTRACK_FULL = _cause(
    "conntrack-full",
    Symptom.SOME,
    "The connection tracking table is full ({count} of {maximum} entries), so new connections are dropped.",
    "Raise net.netfilter.nf_conntrack_max, and look for the instance that opens so many (`conntrack -L`).",
)

# --- layer 2 of the host ---

BRIDGE_MISSING = _cause(
    "bridge-missing",
    Symptom.ADDRESS,
    "Bridge {bridge} is missing, so {device} cannot be connected: {reach}.",
    "Make the bridge, or correct [bridge] external_networks or bridge_mappings of the L2 agent.",
)
BRIDGE_DOWN = _cause(
    "bridge-down",
    Symptom.ADDRESS,
    "Bridge {bridge} is down, so nothing passes it: {reach}.",
    "`ip link set {bridge} up`.",
)
PORT_ISOLATED = _cause(
    "port-isolated",
    Symptom.ADDRESS,
    "Ports of bridge {bridge} are isolated from each other, so nothing passes between {ends}; isolated: {isolated}.",
    "`bridge link set dev {device} isolated off`, and find out which program sets it.",
)
PORT_CLOSED = _cause(
    "port-closed",
    Symptom.ADDRESS,
    "Port {device} of bridge {bridge} passes nothing: it is {text}.",
    "`{command}`, and find out which program sets it.",
)
NO_UPLINK = _cause(
    "no-uplink",
    Symptom.ADDRESS,
    "The way out of the host is broken: {text}; {reach}.",
    "Check cable, switch port, bond and the network configuration of the host.",
)
PORT_UNPLUGGED = _cause(
    "port-unplugged",
    Symptom.ADDRESS,
    "The outer side of {device} is not as it must be: {text}.",
    "dvr-agent repairs this by itself; see why it does not ({daemon}).",
)
OVS_ERROR = _cause(
    "ovs-error",
    Symptom.ADDRESS,
    "Open vSwitch has not made the port {device}: {text}.",
    "Look at the log of ovs-vswitchd; `ovs-vsctl list Interface {device}`.",
)
VLAN_DEAD = _cause(
    "vlan-dead",
    Symptom.INSTANCE,
    "Port {device} is in the dead VLAN 4095: the Open vSwitch agent has not wired it.",
    "Look at neutron-openvswitch-agent: is it alive, and is the port bound to this host?",
)
VLAN_NONE = _cause(
    "vlan-none",
    Symptom.INSTANCE,
    "Port {device} has no VLAN tag: the Open vSwitch agent has not wired it yet.",
    "Look at neutron-openvswitch-agent: is it alive, and does it know the port?",
)
VLAN_MISMATCH = _cause(
    "vlan-mismatch",
    Symptom.INSTANCE,
    "Port {device} has VLAN tag {tag}, but the instance's port {other} has {other_tag}: they are in two networks.",
    "Restart neutron-openvswitch-agent, which sets the tags; look for a program that changes them.",
)
INSTANCE_MAC = _cause(
    "instance-mac",
    Symptom.INSTANCE,
    "The document has MAC address {mac} for {address} ({entry}), but {device} shows that the instance has {real}.",
    "Correct the port's MAC address in Neutron (`openstack port show {port}`) or in the document, if the instance's is "
    "right; else give the instance that of its port (hard reboot).",
)

REFUSED = _cause(
    "refused",
    Symptom.NEW,
    "dvr-agent could not build all of router {router}: {reason}.",
    "See the reason; it is tried again by itself, {retry}.",
)

# --- fail-over ---

VRRP_TWO_MASTERS = _cause(
    "vrrp-two-masters",
    Symptom.SERVICES,
    "Two hosts are the VRRP master of router {router}: this one, and {other}.",
    "Check that the hosts reach each other in the HA network (device {device}); one of them hears nothing.",
)
VRRP_NO_MASTER = _cause(
    "vrrp-no-master",
    Symptom.SERVICES,
    "No host is the VRRP master of router {router}: nothing is heard on {object}.",
    "Check that VRRP runs on the hosts of the router, and that they reach each other in the HA network.",
)
VRRP_DEAD = _cause(
    "vrrp-dead",
    Symptom.SERVICES,
    "VRRP of router {router} is not as it must be: {text}.",
    "dvr-agent starts it again; see why it does not ({daemon}).",
)

# --- objects of ours that are missing or wrong ---

NAMESPACE_MISSING = _cause(
    "namespace-missing",
    Symptom.NOTHING,
    "Namespace {namespace} is missing.",
    "{repair}",
)
LINK_MISSING = _cause("link-missing", Symptom.ADDRESS, "Device {device} is missing in {namespace}.", "{repair}")
LINK_DOWN = _cause("link-down", Symptom.ADDRESS, "Device {device} in {namespace} is down.", "{repair}")
LINK_WRONG = _cause(
    "link-wrong",
    Symptom.SOME,
    "Device {device} in {namespace} has another MTU or MAC address than its port: {text}.",
    "{repair}",
)
ADDRESS_MISSING = _cause(
    "address-missing", Symptom.ADDRESS, "An address is missing in {namespace}: {object}.", "{repair}"
)
RULE_MISSING = _cause(
    "rule-missing", Symptom.ADDRESS, "A routing rule is missing in {namespace}: {object}.", "{repair}"
)
ROUTE_MISSING = _cause("route-missing", Symptom.ADDRESS, "A route is missing in {namespace}: {object}.", "{repair}")
ROUTE_WRONG = _cause("route-wrong", Symptom.ADDRESS, "A route in {namespace} leads elsewhere: {text}.", "{repair}")
NAT_MISSING = _cause("nat-missing", Symptom.ADDRESS, "A NAT rule is missing in {namespace}: {object}.", "{repair}")
FILTER_WRONG = _cause(
    "filter-wrong", Symptom.SOME, "Our packet filter rules in {namespace} are not as they must be: {text}.", "{repair}"
)
PROXY_ARP = _cause(
    "proxy-arp",
    Symptom.ADDRESS,
    "Proxy ARP is off on {device}, so nobody outside learns where the floating IPs are.",
    "{repair}",
)
FORWARDING = _cause("forwarding-off", Symptom.ADDRESS, "Forwarding is off in {namespace}: {object}.", "{repair}")
SYSCTL = _cause("sysctl", Symptom.SOME, "A kernel parameter in {namespace} is not as it must be: {object}.", "{repair}")
NEIGHBOUR_WRONG = _cause(
    "neighbour-wrong",
    Symptom.INSTANCE,
    "The neighbour entry of {address} in {namespace} is missing or has another MAC address: {text}.",
    "{repair}",
)
STALE_OBJECT = _cause(
    "stale-object", Symptom.SOME, "An object that no document wants is in {namespace}: {object}.", "{repair}"
)
LIMIT_WRONG = _cause(
    "limit-wrong", Symptom.SOME, "A bandwidth limit in {namespace} is not as it must be: {text}.", "{repair}"
)
OTHER_CHANGE = _cause(
    "other-change", Symptom.SOME, "An object in {namespace} is not as it must be: {text}.", "{repair}"
)

# --- links and neighbours ---

NO_CARRIER = _cause(
    "no-carrier",
    Symptom.ADDRESS,
    "Device {device} in {namespace} has no carrier: its other end is down or gone.",
    "Raise the other end (`ip link set {peer} up`); look for a program that sets it down.",
)
INSTANCE_PORT_DOWN = _cause(
    "instance-port-down",
    Symptom.INSTANCE,
    "The instance's device {device} on this host is {state}.",
    "Is the instance running? `ip link set {device} up`, or a hard reboot of the instance.",
)
INSTANCE_OFF_BRIDGE = _cause(
    "instance-off-bridge",
    Symptom.INSTANCE,
    "The instance's device {device} {where}; it must be on bridge {bridge}.",
    "Look at the L2 agent of this host, which connects it; `ip link set {device} master {bridge}`.",
)
INSTANCE_MTU = _cause(
    "instance-mtu",
    Symptom.SOME,
    "The instance's device {device} has MTU {mtu}, the router's has {wanted}: big packets are lost.",
    "Set the network's MTU in Neutron and plug the instance again (hard reboot).",
)
BRIDGE_MTU = _cause(
    "bridge-mtu",
    Symptom.SOME,
    "Bridge {bridge} carries packets of {mtu} bytes, the router sends {wanted}: big packets are lost.",
    "Raise the MTU of {smallest}, the smallest port of the bridge.",
)
MAC_ELSEWHERE = _cause(
    "mac-elsewhere",
    Symptom.INSTANCE,
    "The MAC address {mac} of {owner} is seen at {port} of bridge {bridge}: something else has the same one, "
    "or it is on another host.",
    "Find the second owner behind {port}; of an instance, check in Neutron which host it is on.",
)
ADDRESS_ELSEWHERE = _cause(
    "address-elsewhere",
    Symptom.ADDRESS,
    "Another machine has {address}, too: MAC address {mac}; {place}.",
    "Find the machine with that MAC address in {network}: a second host that still has the address, or a device that "
    "took it.",
)
ADDRESS_CLAIMED = _cause(
    "address-claimed",
    Symptom.ADDRESS,
    "Another machine had {address} a while ago: {namespace} has the neighbour entry {object}; {place}.",
    "`dvrctl why --probe {subject}` asks who has it now.",
)
GATEWAY_SILENT = _cause(
    "gateway-silent",
    Symptom.ADDRESS,
    "The gateway {address} of the external network does not answer ARP on {device}.",
    "Check the external network: VLAN of the bridge's uplink, switch port, the gateway itself.",
)
INSTANCE_SILENT = _cause(
    "instance-silent",
    Symptom.INSTANCE,
    "The instance does not answer ARP for {address} on {device}.",
    "Is it running, and has it configured the address (DHCP)? Look at its console log.",
)
CONNTRACK_OLD = _cause(
    "conntrack-old",
    Symptom.SOME,
    "Tracked connections in {namespace} keep an old translation of {address}: {what} ({object}){number}.",
    "Delete them: `ip netns exec {namespace} conntrack -D {selector}`.",
)

# --- services, server ---

DAEMON_SILENT = _cause(
    "daemon-silent",
    Symptom.NEW,
    "dvr-agent does not answer, so no change of a document reaches this host: {reason}.",
    "{start}.",
)

VRRP_BACKUP = _cause(
    "vrrp-backup",
    Symptom.NOTHING,
    "This host is the VRRP backup of router {router}: another host is the master and has the addresses.",
    "Run `dvrctl why {subject}` on the master; `dvrctl status` there shows VRRP master.",
)
METADATA_DEAD = _cause(
    "metadata-dead",
    Symptom.SERVICES,
    "Instances of router {router} get no metadata: {text}.",
    "Look at `systemctl status dvr-metadata-proxy`.",
)
RADVD_DEAD = _cause(
    "radvd-dead",
    Symptom.SERVICES,
    "Router advertisements of router {router} are not sent: {text}.",
    "dvr-agent starts radvd again; see why it does not ({daemon}).",
)
SERVICE_WRONG = _cause(
    "service-wrong", Symptom.SERVICES, "A service of router {router} is not as it must be: {text}.", "{repair}"
)
SERVER_AWAY = _cause(
    "server-away",
    Symptom.SERVER,
    "neutron-server does not answer this host, so changes do not arrive and states are not reported: {reason}.",
    "Check the message bus and neutron-server; routers go on as they are.",
)
STATUS_WAITING = _cause(
    "status-waiting",
    Symptom.SERVER,
    "Neutron does not show {subject} as {status} yet: the report has not been accepted.",
    "It is sent again by itself; the log of dvr-agent says why the server refused it.",
)
STATUS_DOWN = _cause(
    "status-down",
    Symptom.SERVER,
    "neutron-server has {subject} as {status}.",
    "See the other lines: dvr-agent reports ACTIVE once all of it is in the kernel.",
)
PENDING = _cause(
    "pending",
    Symptom.NEW,
    "Router {router} waits for its job: {reason}.",
    "Wait for it (`dvrctl status`).",
)
DEGRADED = _cause(
    "degraded",
    Symptom.SOME,
    "Router {router} is degraded: {reason}.",
    "See the reason; the next try is {retry}.",
)
REST_DIFFERS = _cause(
    "rest-differs",
    Symptom.SOME,
    "{subject} is in place, but other parts of router {router} are not: {text}.",
    "{repair}",
)

# --- not judged here ---

INSTANCE_ABSENT = _cause(
    "instance-absent",
    Symptom.INSTANCE,
    "The router's part of {subject} is right, but there is no device {device} on this host, by which an instance with "
    "this port is connected.",
    "Is the instance running on this host (`openstack server show`)? Only instances with another kind of port "
    "(vhost-user, SR-IOV) have no such device.",
)
CLAIM_RIVAL = _cause(
    "claim-rival",
    Symptom.SOME,
    "This host's part of {subject} is right for router {router}, but {other} claims {address}, too; {decision}.",
    "If the other router should have it, remove it from document {document}; else from that of the other router.",
)

ELSEWHERE = _cause(
    "elsewhere",
    Symptom.INSTANCE,
    "This host's part of {subject} is right.",
    "Look at the instance's own firewall and its security groups, then at the external network; "
    "`dvrctl why --probe {subject}` asks the instance and the gateway.",
)
ELSEWHERE_ANSWERED = _cause(
    "elsewhere-answered",
    Symptom.INSTANCE,
    "This host's part of {subject} is right, and who was asked by ARP answers.",
    "Look at the instance's own firewall, its routes and its security groups, then beyond the gateway of the external "
    "network; `dvrctl capture --run {subject}` shows where its packets end.",
)
ELSEWHERE_ROUTER = _cause(
    "elsewhere-router",
    Symptom.INSTANCE,
    "This host's part of {subject} is right.",
    "Ask for the one address that does not work (`dvrctl why ADDRESS`): instance and connections are looked at, too.",
)
