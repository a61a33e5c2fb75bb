"""Document → host and mode → the instance's port: what the documents say about the subject."""

from __future__ import annotations

import re
from collections.abc import Iterator

from dvr_agent.cli.why import causes
from dvr_agent.cli.why.attachment import Attachment, find_attachment
from dvr_agent.cli.why.facts import Facts, Kind, Refusal
from dvr_agent.cli.why.remedy import sweep_text
from dvr_agent.cli.why.verdicts import Step, ok, unknown, wrong
from dvr_agent.desired.host_settings import AgentMode
from dvr_agent.desired.host_view import left_alone_reason
from dvr_agent.model.router import NEEDS_BINDING_HOST, FloatingIp, Router, RouterPort

_SHOWN = 3
"""Objects of the kernel that are listed, of a router whose document is refused."""
_CLAIM = re.compile(r'(?P<path>.*?(?P<key>\w+)) is "(?P<value>[^"]*)": expected .*; (?P<holder>[^;]*) has it$')
"""An omission of something that another document has (``dvr_agent.reconcile.claims``)."""
_WORDS = {"floating_ip_address": "floating IP", "ip_address": "address", "mac_address": "MAC address", "id": "port id"}
"""Key of a document → what it is."""


def nothing(facts: Facts) -> Iterator[Step]:
    """Judge an address that no document has."""
    subject = facts.subject
    if subject.kind is not Kind.NOTHING:
        return
    if facts.refusal is not None:
        yield from _refused(facts, facts.refusal)
    elif facts.in_kernel:
        places = "; ".join(facts.in_kernel)
        yield wrong("kernel", "no document has it", places, causes.KERNEL_ONLY, near=places, sweep=sweep_text(facts))
    else:
        for text in facts.near:
            yield unknown("near", text)
        near = facts.near[0] if facts.near else "and no subnet of a router here contains it"
        yield wrong("document", "no document has it", "", causes.NO_DOCUMENT, near=near)


def _refused(facts: Facts, refusal: Refusal) -> Iterator[Step]:
    """Judge a document that cannot be used: key and value, what it says of the subject, what is in the kernel."""
    named = f"{refusal.title} ({refusal.router_id})" if refusal.name and refusal.router_id else refusal.title
    text = f"the newest document {refusal.document} of router {named} is refused: {refusal.reason}"
    shown, more = list(facts.in_kernel[:_SHOWN]), len(facts.in_kernel) - _SHOWN
    places = "; ".join([*shown, f"{more} more"] if more > 0 else shown)
    kept = f" The kernel still has what an earlier document said: {places}." if places else ""
    values = {"router": refusal.title, "reason": refusal.reason, "kept": kept, "file": refusal.file or "FILE"}
    yield wrong("document", text, "", causes.DOCUMENT_REFUSED, **values)
    if refusal.wants:
        yield unknown("wanted", f"the refused document says: {refusal.wants}")
    if places:
        yield ok("kernel", f"as an earlier document said: {places}")


def document(facts: Facts) -> Iterator[Step]:
    """Judge the document that has the subject: refused, and objects that are left out of it."""
    subject, router = facts.subject, facts.subject.router
    if router is None:
        yield from _without_document(facts)
        return
    what = "" if subject.kind is Kind.ROUTER else f"{subject.role or subject.kind.value} of "
    title = f"{what}router {subject.title} ({router.id}), document {subject.document}"
    if facts.refusal is not None:
        yield from _refused(facts, facts.refusal)
    else:
        yield ok("document", title)
    yield from _omissions(facts, router)
    if not router.admin_state_up:
        yield wrong("router", "admin_state_up is false", "", causes.ROUTER_DOWN, router=subject.title)


def _without_document(facts: Facts) -> Iterator[Step]:
    """Judge a router of which there is no good document."""
    if facts.subject.kind is Kind.NOTHING:
        return
    title, places = facts.subject.title, ", ".join(facts.in_kernel)
    if facts.refusal is not None:
        yield from _refused(facts, facts.refusal)
    elif places and facts.daemon.status.get("guard"):
        guard = str(facts.daemon.status["guard"])
        yield wrong("document", guard, places, causes.HELD_BACK, router=title, reason=guard)
    elif places:
        values = {"near": places, "sweep": sweep_text(facts)}
        yield wrong("document", "no document has it, the kernel does", places, causes.KERNEL_ONLY, **values)
    else:
        yield wrong("document", "no document has it", "", causes.NO_DOCUMENT, near="nor is it in the kernel")


def _omissions(facts: Facts, router: Router) -> Iterator[Step]:
    subject = facts.subject
    texts = facts.plan.omitted or tuple(omission.text for omission in router.omitted)
    for text in sorted(texts, key=lambda text: not _is_about(text, facts)):  # the first one is explained
        mine, taken = _is_about(text, facts), _is_lost(text)
        if taken and (mine or not _is_about_fip(text)):
            yield _lost(facts, text)
        elif mine:
            yield wrong("document", text, "", causes.LEFT_OUT, router=subject.title, reason=text)
        else:
            yield unknown("document", f"left out of the router: {text}")


def _lost(facts: Facts, text: str) -> Step:
    """Judge a claim that another router has."""
    router, match = facts.subject.title, _CLAIM.match(text)
    if match is None:
        values = {"what": f"part of the document ({text})", "holder": "another document", "rule": _rule(facts, False)}
        return wrong("claims", text, "", causes.CLAIM_LOST, router=router, **values)
    holder, in_kernel = match["holder"], False
    for rival in facts.rivals:
        in_kernel |= rival.router_id in holder and rival.router_id in rival.in_kernel
        holder = holder.replace(f"router {rival.router_id}", f"router {rival.title}")
    said = f'{match["path"]} is "{match["value"]}": {holder} claims it, too, and has it'
    what = f"{_WORDS.get(match['key'], match['key'])} {match['value']}"
    values = {"what": what, "holder": holder, "rule": _rule(facts, in_kernel)}
    return wrong("claims", said, "", causes.CLAIM_LOST, router=router, **values)


def _rule(facts: Facts, is_in_kernel: bool) -> str:
    """Return why one of two documents has what both claim (``dvr_agent.reconcile.claims``).

    :param is_in_kernel: the kernel has it for that one's router
    """
    if facts.newest_counts:
        return "the newest document counts"
    if is_in_kernel:
        return "the kernel has it for that router already, and the first claim counts"
    return "the earlier document counts (of those at the start of dvr-agent, the lower router id)"


def rivals(facts: Facts) -> Iterator[Step]:
    """Judge other documents that claim the subject's address, and do not have it."""
    subject = facts.subject
    if subject.router is None or any(_is_lost(text) and _is_about(text, facts) for text in facts.plan.omitted):
        return
    for rival in facts.rivals:
        other = f"router {rival.title} (document {rival.document})"
        if rival.place:
            decision = f"it is built on {rival.place}, so that two hosts answer for the address"
        elif facts.path.namespaces:
            rule = _rule(facts, subject.router.id in rival.in_kernel)
            decision = f"router {subject.title} has it, since {rule}"
        else:
            decision = "the host that builds it decides which of them has it"
        text = f"{other} claims {rival.address}, too, at {rival.path}; {decision}"
        values = {"router": subject.title, "other": other, "decision": decision, "document": subject.document}
        yield unknown("claims", text, "", causes.CLAIM_RIVAL, address=rival.address, **values)


def _is_lost(text: str) -> bool:
    return text.endswith(" has it")


def _is_about(text: str, facts: Facts) -> bool:
    """True if what is left out is the subject; of a router everything is."""
    subject = facts.subject
    words = [subject.address, subject.fixed if subject.fip is not None else ""]
    return subject.kind is Kind.ROUTER or any(f'"{word}"' in text for word in words if word)


def _is_about_fip(text: str) -> bool:
    return "_floatingips" in text


def host(facts: Facts) -> Iterator[Step]:
    """Judge on which host and in which mode the subject is built."""
    subject, router = facts.subject, facts.subject.router
    if router is None or not router.admin_state_up:
        return
    reason = left_alone_reason(router, facts.settings)
    if reason:
        yield unknown("host", reason, "", causes.LEFT_ALONE, router=subject.title, reason=reason)
        return
    if facts.plan.view is None:
        yield unknown("host", f"not planned: {facts.plan.error}")
        return
    if subject.kind in (Kind.FLOATING_IP, Kind.FIXED) and subject.fip is not None:
        yield from _fip_host(facts, subject.fip, router)
    elif subject.kind is Kind.FORWARDED or subject.role in ("gateway port", "csnat port"):
        yield from _snat_host(facts, router, f"built in the SNAT namespace, {subject.role or 'port forwarding'}")
    elif router.gateway is None and subject.kind is Kind.FIXED:
        text = "the router has no external gateway"
        yield unknown("host", text, "", causes.NO_GATEWAY, router=subject.title)
    else:
        yield ok("host", f"built on this host ({facts.settings.host}, mode {facts.settings.mode.value})")


def _fip_host(facts: Facts, fip: FloatingIp, router: Router) -> Iterator[Step]:
    here, view = facts.settings.host, facts.plan.view
    assert view is not None
    if router.gateway is None:
        yield wrong("host", "the router has no external gateway", "", causes.NO_GATEWAY, router=facts.subject.title)
    elif view.is_central(fip):
        why = "its port is bound to no host" if fip.host == NEEDS_BINDING_HOST else "centralized"
        yield from _snat_host(facts, router, why if router.distributed else "legacy router")
    elif not view.bound_here(fip) and (attachment := find_attachment(facts)) is not None:
        yield _instance_here(facts, attachment, f"host {fip.host}" if fip.host else "no host")
    elif not fip.host and not fip.dest_host:
        yield wrong("host", "host is empty", "", causes.UNBOUND_PORT)
    elif here not in (fip.host, fip.dest_host):
        yield unknown("host", f"bound to host {fip.host}", "", causes.OTHER_HOST, host=fip.host)
    elif view.agent_gateway is None:
        yield wrong("host", "bound here", "", causes.NO_AGENT_GATEWAY, reason=_no_agent_gateway(facts, router.gateway))
    else:
        moving = " (its port is moving here)" if fip.host != here else ""
        yield ok("host", f"bound to this host{moving}, distributed: fip namespace and qrouter, mode {_mode(facts)}")
        yield from _subnet_gateway(view.agent_gateway)


def _instance_here(facts: Facts, attachment: Attachment, bound: str) -> Step:
    port = facts.subject.port
    mac = attachment.macs[0] if attachment.is_certain or port is None else port.mac
    text = f"bound to {bound}, but the instance is connected to this host"
    return wrong(
        "host", text, f"{attachment.text}, MAC address {mac}", causes.INSTANCE_HERE, bound=bound, mac=mac,
        device=attachment.text, name=attachment.device, port=port.id if port is not None else "",
        router=facts.subject.title,
    )  # fmt: skip


def _snat_host(facts: Facts, router: Router, text: str) -> Iterator[Step]:
    view = facts.plan.view
    assert view is not None
    if router.gateway is None:
        yield wrong("host", "the router has no external gateway", "", causes.NO_GATEWAY, router=facts.subject.title)
    elif view.gateway_here is not None:
        yield ok("host", f"{text}; {view.central.name if view.central else ''} is on this host")
        yield from _subnet_gateway(view.gateway_here)
    elif not router.gateway_host:
        yield wrong("host", text, "", causes.NO_SNAT_HOST, router=facts.subject.title)
    elif router.gateway_host == facts.settings.host:
        mode = f"agent_mode is {_mode(facts)}"
        yield wrong("host", f"{text}; {mode}", "", causes.NO_SNAT_HOST, router=facts.subject.title)
    else:
        elsewhere = router.gateway_host
        yield unknown(
            "host",
            f"{text}, on host {elsewhere}",
            "",
            causes.SNAT_ELSEWHERE,
            router=facts.subject.title,
            host=elsewhere,
        )


def _subnet_gateway(port: RouterPort) -> Iterator[Step]:
    subnets = [subnet for subnet in port.subnets if subnet.cidr.version == 4]
    if subnets and not any(subnet.gateway_ip for subnet in subnets):
        text = f"external subnet {subnets[0].cidr} has no gateway_ip"
        yield wrong("host", text, "", causes.NO_SUBNET_GATEWAY)


def _no_agent_gateway(facts: Facts, gateway: RouterPort) -> str:
    if facts.settings.mode is AgentMode.DVR_NO_EXTERNAL:
        return "agent_mode is dvr_no_external"
    return f"the document lists no agent gateway port in network {gateway.network_id} for {facts.settings.host}"


def _mode(facts: Facts) -> str:
    return facts.settings.mode.value


def instance_port(facts: Facts) -> Iterator[Step]:
    """Judge the instance's port, as the documents list it: status, and whether another port has its address."""
    subject, router = facts.subject, facts.subject.router
    if router is None or not subject.fixed:
        return
    port = subject.port
    if port is None:
        yield unknown("port", f"the document lists no port with address {subject.fixed}")
    elif not port.is_up:
        text = f"port {port.id} is down in Neutron (admin_state_up or status)"
        yield unknown("port", text, "", causes.PORT_DOWN_IN_DOCUMENT, port=port.id)
    else:
        yield ok("port", f"port {port.id}, {subject.fixed}, {port.mac}")
    for omission in router.skipped:
        if f'"{subject.fixed}"' in omission.value and "one port only" in omission.expected:
            ports = f"port {port.id if port is not None else '?'}, and {omission.value}"
            yield wrong("port", omission.text, "", causes.ADDRESS_TWICE, address=subject.fixed, ports=ports)
