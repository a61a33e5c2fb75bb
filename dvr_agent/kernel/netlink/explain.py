"""A refused netlink message in words, for the log at DEBUG: every field and attribute, as pyroute2 reads it.

pyroute2 is imported here and nowhere else in the running agent, and only when a message was refused and DEBUG is on:
its message classes know every attribute there is, and cost 0.4 s and 20 MB to load.  What is sent the codec makes.
"""

from __future__ import annotations

import struct
from typing import Any

_CLASSES = {
    16: ("ifinfmsg", "ifinfmsg"),
    17: ("ifinfmsg", "ifinfmsg"),
    18: ("ifinfmsg", "ifinfmsg"),
    20: ("ifaddrmsg", "ifaddrmsg"),
    21: ("ifaddrmsg", "ifaddrmsg"),
    24: ("rtmsg", "rtmsg"),
    25: ("rtmsg", "rtmsg"),
    28: ("ndmsg", "ndmsg"),
    29: ("ndmsg", "ndmsg"),
    32: ("fibmsg", "fibmsg"),
    33: ("fibmsg", "fibmsg"),
}
"""RTM_… (linux/rtnetlink.h) → module below ``pyroute2.netlink.rtnl`` and class in it."""


def explain(kind: int, body: bytes) -> str:
    """The message as a line of text; never raises, since it only ever helps with another error.

    :param kind: message type
    :param body: without the netlink header
    """
    try:
        module, name = _CLASSES[kind]
        made = getattr(__import__(f"pyroute2.netlink.rtnl.{module}", fromlist=[name]), name)
        message = made(struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body)
        message.decode()
        return f"{name} {_plain(message)}"
    except Exception as exc:  # noqa: BLE001 - another library's view of bytes that the kernel has refused
        return f"message {kind} {body.hex()} ({type(exc).__name__}: {exc})"


def _plain(value: Any) -> Any:
    """Nested messages as dictionaries, without what says nothing."""
    if hasattr(value, "get") and hasattr(value, "keys"):
        fields = {key: value[key] for key in value.keys() if key not in ("attrs", "header", "event") and value[key]}  # noqa: SIM118 - no mapping
        return fields | {slot[0]: _plain(slot[1]) for slot in value.get("attrs") or ()}
    return value
