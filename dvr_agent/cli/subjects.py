"""Finds the router or floating IP that the operator names on the command line; all verbs use it.

Pure: what is known on this host in (:class:`dvr_agent.cli.host_inventory.Host` has it), one id out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_address
from typing import NamedTuple

from dvr_agent.cli.output import harmless
from dvr_agent.desired import names
from dvr_agent.errors import DvrError

_LONGEST = 80
"""Characters of the operator's word that an error repeats."""
_SHOWN = 10
"""Maximum number of candidates that an error lists."""


class NotFoundError(DvrError):
    """The command line names something that does not exist on this host, or several things."""


class KnownFloatingIp(NamedTuple):
    """A floating IP of a document, or one that the kernel translates.

    :ivar id: of the floating IP at Neutron; empty where no document has it
    """

    router_id: str
    address: str
    fixed: str
    id: str = ""


class Subject(NamedTuple):
    """A router, or one of its floating IPs."""

    router_id: str
    floating_ip: KnownFloatingIp | None = None


def find_router(text: str, routers: Mapping[str, str]) -> str:
    """Return the id of the router that the text names.

    The text is, first match first: an id or a namespace of the router (``qrouter-<id>``, ``snat-<id>``), the whole
    name, or the beginning of an id or of a name.

    :param routers: router id → name (may be empty)
    :raises NotFoundError: no router is meant, or several are: the error lists their ids
    """
    found = _find_router(text, routers)
    if found is None:
        hint = "see dvrctl show routers" if routers else "there is none on this host"
        raise NotFoundError(f"no router begins with {_quoted(text)}, by id or name ({hint})")
    return found


def find_subject(text: str, routers: Mapping[str, str], floating_ips: Iterable[KnownFloatingIp]) -> Subject:
    """Return the router or floating IP that the text names.

    An address is a floating IP; any other text is the id of a floating IP or what :func:`find_router` takes, or the
    beginning of a floating IP's id.

    :param routers: router id → name (may be empty)
    :raises NotFoundError: nothing is meant, or several things are: the error lists them
    """
    known = list(floating_ips)
    address = _canonical_address(text)
    if address:
        return _by_address(address, known)
    exact = [one for one in known if one.id == text.lower()]
    if exact and text:
        return Subject(exact[0].router_id, exact[0])
    router_id = _find_router(text, routers)
    if router_id is not None:
        return Subject(router_id)
    begun = [one for one in known if text and one.id.startswith(text.lower())]
    if len(begun) > 1:
        raise NotFoundError(f"several floating IPs begin with {_quoted(text)}: {_listed(one.id for one in begun)}")
    if not begun:
        hint = "see dvrctl show routers and show fips"
        raise NotFoundError(f"no router or floating IP begins with {_quoted(text)}, by id or name ({hint})")
    return Subject(begun[0].router_id, begun[0])


def _find_router(text: str, routers: Mapping[str, str]) -> str | None:
    """Return the id of the router that the text names, None if none does.

    :raises NotFoundError: several do
    """
    for found, how in _attempts(text, routers):
        if len(found) > 1:
            titles = (_title(one, routers[one]) for one in found)
            raise NotFoundError(f"several routers {how} {_quoted(text)}; use an id: {_listed(titles)}")
        if found:
            return found[0]
    return None


def _attempts(text: str, routers: Mapping[str, str]) -> Sequence[tuple[list[str], str]]:
    """Return (ids that match, how they match), the surest first."""
    if not text:
        return ()
    parsed = names.parse_namespace(text.lower())
    key = parsed[1] if parsed is not None and parsed[0] != names.FIP else text.lower()
    ids = sorted(routers)
    return (
        ([one for one in ids if one == key], "have the id"),
        ([one for one in ids if routers[one] == text], "have the name"),
        ([one for one in ids if one.startswith(key) or routers[one].startswith(text)], "begin with"),
    )


def _by_address(address: str, known: Sequence[KnownFloatingIp]) -> Subject:
    found = {one.router_id: one for one in known if one.address == address}
    if not found:
        raise NotFoundError(f"no router on this host has the floating IP {address} (see dvrctl show fips)")
    if len(found) > 1:
        raise NotFoundError(f"several routers have the floating IP {address}; use an id: {_listed(sorted(found))}")
    ((router_id, one),) = found.items()
    return Subject(router_id, one)


def _canonical_address(text: str) -> str:
    """Return the address in canonical text; empty: the text is no address."""
    try:
        return str(ip_address(text.partition("/")[0]))
    except ValueError:
        return ""


def _title(router_id: str, name: str) -> str:
    return f"{router_id} ({harmless(name)})" if name else router_id


def _listed(texts: Iterable[str]) -> str:
    listed = list(texts)
    more = [f"and {len(listed) - _SHOWN} more"] if len(listed) > _SHOWN else []
    return ", ".join([*listed[:_SHOWN], *more])


def _quoted(text: str) -> str:
    return f'"{harmless(text[:_LONGEST])}{"…" if len(text) > _LONGEST else ""}"'
