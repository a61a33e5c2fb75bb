"""Selects the headers that are forwarded, to neutron-metadata-agent and back to the instance.  Pure.

neutron-metadata-agent trusts X-Neutron-Router-ID and X-Forwarded-For, which identify the instance.  So neither may come
from the instance, in any spelling: a WSGI server turns ``-`` into ``_`` and ignores case, and some servers do so with
other characters too.  Names are therefore compared in the form that the laxest server makes of them (:func:`folded`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

Headers = list[tuple[bytes, bytes]]

METADATA_ADDRESS = b"169.254.169.254"
"""Host of a request that names none (HTTP/1.0)."""

OURS = frozenset(
    {
        b"x-neutron-router-id",
        b"x-neutron-network-id",
        b"x-forwarded-for",
        b"x-instance-id",
        b"x-instance-id-signature",
        b"x-tenant-id",
    }
)
"""Set by us or by neutron-metadata-agent (neutron/agent/metadata/agent.py), never by an instance."""

HOP_BY_HOP = frozenset(
    {b"connection", b"keep-alive", b"te", b"trailer", b"trailers", b"transfer-encoding", b"upgrade", b"http2-settings"}
)
"""RFC 9110, 7.6.1; all headers ``Proxy-*`` count too."""

_NO_LETTER = re.compile(rb"[^a-z0-9]")


def folded(name: bytes) -> bytes:
    """Return a name in the form that the laxest server makes of it."""
    return _NO_LETTER.sub(b"-", name.lower())


def towards_agent(headers: Iterable[tuple[bytes, bytes]], router_id: str, client: str, body: int) -> Headers:
    """Return the headers of the request to neutron-metadata-agent.

    :param headers: headers of the instance's request
    :param client: address of the instance, without scope
    :param body: size of the body in bytes
    """
    given = list(headers)
    dropped = OURS | HOP_BY_HOP | _named_by_connection(given) | {b"expect", b"content-length"}
    kept, has_host, has_length = [], False, False
    for name, value in given:
        plain = folded(name)
        has_length = has_length or name.lower() in (b"content-length", b"transfer-encoding")
        if name.lower() == b"host":
            has_host = True
        elif plain == b"host" or _is_in(dropped, plain):
            continue
        kept.append((name, value))
    if not has_host:
        kept.append((b"Host", METADATA_ADDRESS))
    if has_length:
        kept.append((b"Content-Length", b"%d" % body))
    kept += [
        (b"X-Neutron-Router-ID", router_id.encode("ascii")),
        (b"X-Forwarded-For", client.encode("ascii")),
        (b"Connection", b"close"),
    ]
    return kept


def towards_instance(headers: Iterable[tuple[bytes, bytes]], status: int) -> Headers:
    """Return the headers of the answer to the instance; h11 adds the framing if there is no Content-Length."""
    given = list(headers)
    dropped = HOP_BY_HOP | _named_by_connection(given)
    # RFC 9112, 6.3: Transfer-Encoding overrides Content-Length. RFC 9110, 8.6: no Content-Length in a 204.
    if status == 204 or any(name.lower() == b"transfer-encoding" for name, _ in given):
        dropped |= {b"content-length"}
    else:
        dropped -= {b"content-length"}
    return [(name, value) for name, value in given if not _is_in(dropped, folded(name))]


def client_address(address: object) -> str:
    """Return the address of accept(2) without %scope, mapped IPv4 as IPv4; empty for a Unix socket."""
    if not isinstance(address, tuple):
        return ""
    plain = str(address[0]).partition("%")[0]
    mapped = plain.lower().removeprefix("::ffff:")
    return mapped if mapped != plain.lower() and "." in mapped else plain


def ip_version(client: str) -> int:
    """Return the IP version of a client's address: 4 or 6; 0 for a Unix socket."""
    return (6 if ":" in client else 4) if client else 0


def _is_in(dropped: frozenset[bytes], plain: bytes) -> bool:
    return plain in dropped or plain.startswith(b"proxy-")


def _named_by_connection(headers: Headers) -> frozenset[bytes]:
    values = [value for name, value in headers if name.lower() == b"connection"]
    return frozenset(folded(token.strip()) for value in values for token in value.split(b",") if token.strip())
