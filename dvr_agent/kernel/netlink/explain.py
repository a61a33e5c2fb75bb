"""Write a refused netlink message as text for the log at DEBUG: every field and attribute, decoded by pyroute2.

Used by :mod:`.endpoint` when the kernel has refused a request.
"""

from __future__ import annotations

from typing import Any

from pyroute2.netlink import rtnl
from pyroute2.netlink.nfnetlink import NFNL_SUBSYS_CTNETLINK, NFNL_SUBSYS_NFTABLES
from pyroute2.netlink.nfnetlink.nfctsocket import IPCTNL_MSG_CT_DELETE, nfct_msg
from pyroute2.netlink.nfnetlink.nftsocket import (
    NFT_MSG_DELCHAIN,
    NFT_MSG_DELRULE,
    NFT_MSG_DELTABLE,
    nft_chain_msg,
    nft_rule_msg,
    nft_table_msg,
)
from pyroute2.netlink.rtnl.fibmsg import fibmsg
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.ndmsg import ndmsg
from pyroute2.netlink.rtnl.nsidmsg import nsidmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from dvr_agent.kernel.netlink.message import HEADER

_KINDS = {"LINK": ifinfmsg, "ADDR": ifaddrmsg, "ROUTE": rtmsg, "NEIGH": ndmsg, "RULE": fibmsg, "NSID": nsidmsg}
_CLASSES = {getattr(rtnl, f"RTM_{verb}{kind}"): cls for kind, cls in _KINDS.items() for verb in ("NEW", "DEL", "GET")}
_NFT = {NFT_MSG_DELTABLE: nft_table_msg, NFT_MSG_DELCHAIN: nft_chain_msg, NFT_MSG_DELRULE: nft_rule_msg}
_CLASSES |= {NFNL_SUBSYS_NFTABLES << 8 | kind: cls for kind, cls in _NFT.items()}
_CLASSES[NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE] = nfct_msg
"""Message type → class that reads the message; types of netfilter begin above those of rtnetlink."""


def explain(kind: int, body: bytes) -> str:
    """Return a message as a line of text; raise nothing, since the line only adds to another error.

    :param kind: message type
    :param body: without the netlink header
    """
    try:
        cls = _CLASSES[kind]
        message = cls(HEADER.pack(HEADER.size + len(body), kind, 0, 0, 0) + body)
        message.decode()
        return f"{cls.__name__} {_plain(message)}"
    except Exception as exc:  # noqa: BLE001 - another library's reading of bytes that the kernel has refused
        return f"message {kind} {body.hex()} ({type(exc).__name__}: {exc})"


def _plain(value: Any) -> Any:
    """Convert nested messages to dictionaries, without empty fields."""
    if hasattr(value, "get") and hasattr(value, "keys"):
        fields = {key: value[key] for key in value.keys() if key not in ("attrs", "header", "event") and value[key]}  # noqa: SIM118 - no mapping
        return fields | {slot[0]: _plain(slot[1]) for slot in value.get("attrs") or ()}
    return value
