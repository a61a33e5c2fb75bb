"""Gives log records the fields by which the journal finds them: ``journalctl ROUTER_ID=… FLOATING_IP=… NAMESPACE=…``.

``logs`` attaches :class:`AddFields` to handlers that write to the journal natively; :data:`FIELDS` are the names of the
record's attributes, which oslo.log's handler sends in capitals.
"""

from __future__ import annotations

import logging
import re
from typing import Any

FIELDS = ("router_id", "floating_ip", "namespace")

_UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_NAMESPACE = re.compile(rf"\b(?:qrouter|snat|fip)-{_UUID}\b")
_ROUTER = re.compile(rf"\b(?:router |qrouter-|snat-)({_UUID})\b")
_ADDRESS = re.compile(r"(?<![\w.:])(?:\d{1,3}\.){3}\d{1,3}(?![\w.]*\w:)")


class AddFields(logging.Filter):
    """Sets the fields of a record, from the job's context where there is one, else from its text."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Set the fields; never refuses a record."""
        for name, value in fields_of(record.getMessage(), getattr(record, "context", None)).items():
            setattr(record, name, value)
        return True


def fields_of(text: str, context: Any = None) -> dict[str, str]:
    """Return the fields of a line.

    :param context: of the job, with ``router_id`` and ``floating_ips``; None: there is none
    """
    namespace, router = _NAMESPACE.search(text), _ROUTER.search(text)
    router_id = getattr(context, "router_id", None) or (router[1] if router else "")
    known: frozenset[str] = getattr(context, "floating_ips", frozenset())
    floating_ip = next((one for one in _ADDRESS.findall(text) if one in known), "") if known else ""
    found = {"router_id": router_id, "floating_ip": floating_ip, "namespace": namespace[0] if namespace else ""}
    return {name: value for name, value in found.items() if value}
