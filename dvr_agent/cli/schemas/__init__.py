"""JSON Schemas of dvrctl's JSON output and of the admin socket's answers, by name: ``plan``, ``show fips``, ``status``.

``dvrctl schema`` prints them, ``docs/schemas`` has them as files (``tools/json_schemas.py``), and each JSON output that
a test reads is held to them (``tests/support/json_outputs.py``).  Keys are only ever added, so readers must expect keys
that a schema does not list; the tests allow them in objects of ``parts.open_object`` only.
"""

from __future__ import annotations

from collections.abc import Mapping

from dvr_agent.cli.schemas import daemon, documents, eyes, host, plans
from dvr_agent.cli.schemas.parts import Schema

DIALECT = "https://json-schema.org/draft/2020-12/schema"

SCHEMAS: Mapping[str, tuple[str, Schema]] = {
    "check": ("router documents that were checked", documents.CHECK),
    "check --config": ("configuration files that were checked", documents.CHECK_CONFIG),
    "plan": ("changes that the daemon would make", plans.PLANS),
    "apply": ("changes that were made", plans.PLANS),
    "cleanup": ("objects that were, or would be, removed", plans.CLEANUP),
    "handover": ("what was given back to neutron-l3-agent", plans.HANDOVER),
    "show routers": ("routers with a document or a namespace", host.ROUTERS),
    "show router": ("one router: its document, and its objects in the kernel", host.ROUTER),
    "show namespaces": ("network namespaces of dvr-agent", host.NAMESPACES),
    "show fips": ("floating IPs, where they belong, and the namespaces that have them", host.FLOATING_IPS),
    "show rules": ("packet filter rules of dvr-agent in a namespace", host.RULES),
    "status": ("state of the daemon; also the answer to GET /status on the admin socket", daemon.STATUS),
    "status --watch": ("each line: the state of the daemon, or that it does not answer", daemon.WATCH),
    "router": ("state of one router: the answer to GET /routers/<id> on the admin socket", daemon.ROUTER),
    "sync": ("routers that were tried at once", daemon.SYNC),
    "history": ("each line: a change that the daemon or dvrctl made", eyes.HISTORY),
    "diag": ("the archive that was written", eyes.DIAG),
    "web": ("the address of the page", eyes.WEB),
    "wants-web": ("whether the page is to be served all the time", eyes.WANTS_WEB),
    "capture": ("commands that capture packets, and what they captured", eyes.CAPTURE),
    "show topology": ("namespaces, networks and devices of this host as a graph", eyes.TOPOLOGY),
    "why": ("what is wrong with a floating IP, an address or a router", eyes.WHY),
    "trace": ("the way of a packet", eyes.TRACE),
    "fetch": ("documents that were fetched from neutron-server", documents.FETCH),
    "wants-metadata": ("whether dvr-metadata-proxy is needed", documents.WANTS_METADATA),
    "demo": ("steps of the demonstration", documents.DEMO),
}
"""Name → (title, schema); a verb's name, with the verb below it or the option that makes another output."""


def schema(name: str) -> Schema:
    """Return a whole schema document.

    :raises KeyError: there is none of this name
    """
    title, content = SCHEMAS[name]
    return {"$schema": DIALECT, "title": f"dvrctl {name}: {title}" if name != "router" else title, **content}


def file_name(name: str) -> str:
    """Return the name of the file of a schema: ``show-fips.json``."""
    return f"{name.replace(' --', ' ').replace(' ', '-')}.json"
