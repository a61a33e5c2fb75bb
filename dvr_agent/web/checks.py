"""Checks requests before anything of them is used, and has the headers of every answer.  Pure.

A page of another site in the operator's browser may send requests here, too.  It does not know the token, which goes in
a header and never in a cookie: cookies know no ports, so that any user's server on this host would get them.  A name
of another site that resolves to 127.0.0.1 (DNS rebinding) is refused by its ``Host``.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from ipaddress import ip_address
from typing import NamedTuple

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = (
    ("Content-Security-Policy", POLICY),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cache-Control", "no-store"),
)
"""Of every answer, errors too."""

_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[^\[\]:]+)(?::\d{1,5})?", re.IGNORECASE)


class Refusal(NamedTuple):
    """Why a request is not answered: status line, text for people, further headers."""

    status: str
    text: str
    headers: tuple[tuple[str, str], ...] = ()


def refuse(environ: Mapping[str, str]) -> Refusal | None:
    """Return why a request is refused whatever it asks for, None if it is not."""
    if not is_loopback_name(environ.get("HTTP_HOST", "")):
        return Refusal("421 Misdirected Request", "the name in the address bar must be localhost or a loopback address")
    if environ.get("HTTP_SEC_FETCH_SITE", "none") not in ("same-origin", "none"):
        return Refusal("403 Forbidden", "requests of other sites are not answered")
    if environ["REQUEST_METHOD"] != "GET":
        return Refusal("405 Method Not Allowed", "the page only reads: GET", (("Allow", "GET"),))
    return None


def refuse_stranger(environ: Mapping[str, str], token: str) -> Refusal | None:
    """Return why a request is refused that must have the token, None if it has it."""
    scheme, _space, given = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    if scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode("latin-1"), token.encode()):
        return None
    return Refusal(
        "401 Unauthorized",
        "the token is missing or wrong: dvrctl web --url prints the address that has it",
        (("WWW-Authenticate", "Bearer"),),
    )


def is_loopback_name(host: str) -> bool:
    """Return True if a Host header names this host's loopback; the port may be that of an ssh tunnel."""
    match = _HOST.fullmatch(host)
    if match is None:
        return False
    name = match["name"].strip("[]").lower()
    if name == "localhost":
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False
