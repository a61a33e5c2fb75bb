"""More routers of the kind of ``etc/examples/demo.json``, all on one external network."""

from __future__ import annotations

import json
import re
import uuid
from typing import Any

from tests_vm.site import EXAMPLE

SHARED = EXAMPLE["router"]["_floatingip_agent_interfaces"][0]
"""The host's port on the external network: one for all routers."""
UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def router(number: int, floating_ips: int = 2) -> dict[str, Any]:
    """The document of another router: ids, MACs and addresses of its own.

    :param number: 1 to 30
    :param floating_ips: how many of its two it has
    """
    kept = {SHARED["network_id"], SHARED["subnets"][0]["id"]}
    text = json.dumps(EXAMPLE)
    text = UUID.sub(
        lambda found: found[0] if found[0] in kept else str(uuid.uuid5(uuid.NAMESPACE_URL, f"{number} {found[0]}")),
        text,
    )
    text = text.replace("fa:16:3e:", f"fa:16:{number:02x}:").replace("10.10.", f"10.{10 + number}.")
    text = text.replace('"203.0.113.20"', f'"203.0.113.{40 + number}"')
    text = text.replace('"203.0.113.101"', f'"203.0.113.{110 + number}"')
    text = text.replace('"203.0.113.102"', f'"203.0.113.{150 + number}"')
    document: dict[str, Any] = json.loads(text)
    document["router"]["name"] = f"router{number}"
    document["router"]["_floatingip_agent_interfaces"] = [SHARED]
    document["router"]["_floatingips"] = document["router"]["_floatingips"][:floating_ips]
    return document


def namespaces(routers: set[str], fip_network: str) -> set[str]:
    """Those that routers of these ids have."""
    return {f"{kind}-{one}" for kind in ("qrouter", "snat") for one in routers} | {f"fip-{fip_network}"}
