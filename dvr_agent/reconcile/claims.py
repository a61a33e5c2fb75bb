"""The register of claims: which document has a thing that several documents claim.

The documents are declared (:meth:`ClaimRegister.declare_all`), and the planner builds what
:meth:`ClaimRegister.grant` leaves of each.  The winner follows from the claims alone, never from the order of jobs:

* with documents in a directory the earliest claim of a thing has it; where the source is an authority, the newest
  document;
* documents that were there when this process began count as equally old: the one whose thing the kernel has wins,
  else the agent gateway port, else the lowest router id.

A router that is left alone (``host_view.left_alone_reason``) is not built, so its document claims nothing; but nothing
of it is taken away either, so it claims what the kernel has of it, until its namespaces go.

A floating IP that a router has lost stays with it until the winner has built it (``possessions``): what is not taken
yet is not given up.

A job on an unchanged document costs one comparison.  Part of the host memory.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from dvr_agent.desired import claims
from dvr_agent.desired.claims import Claim, claims_here, gateway_claims, kind_of, network_owner
from dvr_agent.desired.host_settings import HostSettings
from dvr_agent.desired.host_view import HostView, agent_gateways, is_left_alone, make_view
from dvr_agent.model.router import Omission, Router, RouterPort
from dvr_agent.reconcile.holdings import KernelHoldings
from dvr_agent.reconcile.possessions import Possessions


class _Claimant(NamedTuple):
    """One claim of a key.

    :ivar owner: router id, or the thing that an agent gateway port is
    :ivar since: when it was claimed first, in documents; 0: before this process, or with its first documents
    """

    owner: str
    thing: str
    since: int


@dataclass(slots=True)
class _Document:
    """The newest document of a router.

    :ivar age: number of the document; documents that were there at the start have 0
    :ivar keys: what it claims
    :ivar left_alone: it is not built here, and decides nothing for others
    :ivar granted: what may be built of it
    :ivar stamp: of the register when ``granted`` was computed
    :ivar lost: key → owner that has it
    """

    router: Router
    name: str
    age: int
    left_alone: bool
    keys: tuple[str, ...] = ()
    granted: Router | None = None
    stamp: int = -1
    lost: dict[str, str] = field(default_factory=dict)


class ClaimRegister:
    """All claims on this host.

    :param newer_wins: the source is an authority: the newest document has what it claims
    """

    def __init__(self, holdings: KernelHoldings, newer_wins: bool = False) -> None:
        self.newer_wins = newer_wins
        self._holdings, self._possessions = holdings, Possessions(holdings)
        self._documents: dict[str, _Document] = {}
        self._claimants: dict[str, tuple[_Claimant, ...]] = {}
        self._winners: dict[str, str] = {}
        """Key that several things claim → thing that has it."""
        self._gateways: dict[str, tuple[RouterPort, tuple[str, ...]]] = {}
        """Thing that an agent gateway port is → the port in use, its keys."""
        self._clock = 0
        self._is_open = True
        """Documents that are declared now count as being there at the start."""
        self._stamp = 0
        """Changes whenever it changes who has something."""
        self._affected: set[str] = set()
        self._rivals: set[str] = set()
        self._undeclared: dict[str, tuple[str, ...]] = {}
        """Router of which the kernel has something, and that has no document → keys."""

    # --- documents ---

    def declare_all(self, documents: Iterable[tuple[str, Router]], settings: HostSettings) -> bool:
        """Declare all documents before the first is planned; later ones are newer.

        What the kernel has of routers without a document counts as claimed by them.

        :param documents: (name, router)
        :returns: True for the first call
        """
        for name, router in documents:
            self._declare(router, settings, name)
        if not self._is_open:
            return False
        self._is_open = False
        for router_id in self._holdings.routers_without(self._documents):
            keys = self._undeclared[router_id] = tuple(self._holdings.keys_of(router_id))
            self._claim(router_id, [(key, router_id) for key in keys], ())
        return True

    def grant(self, router: Router, settings: HostSettings, name: str = "") -> Router:
        """Declare a document, and return the router without what others have; the same object while nothing changes.

        :param name: of the document; empty: as before
        """
        document = self._declare(router, settings, name)
        if document.left_alone:
            self._claim_held(document)
            return router
        if document.stamp != self._stamp or document.granted is None:
            self._evaluate(document, settings)
        assert document.granted is not None
        return document.granted

    def forget(self, router_id: str) -> None:
        """Forget a router that has left the host: others get what it had."""
        document = self._documents.pop(router_id, None)
        self._claim(router_id, (), document.keys if document is not None else self._undeclared.pop(router_id, ()))
        self._holdings.forget(router_id)
        self._possessions.forget(router_id)

    def forget_unknown(self, known: Iterable[str]) -> None:
        """Forget all routers but these."""
        for router_id in (self._undeclared.keys() | self._documents.keys()) - set(known):
            self.forget(router_id)

    def is_granted(self, router_id: str) -> bool:
        """Return False if the router would be granted more, or less, than at its last :meth:`grant`."""
        document = self._documents.get(router_id)
        return document is None or document.stamp == self._stamp or dict(self._lost(router_id)) == document.lost

    # --- what follows from them ---

    def holds_pair(self, router_id: str) -> bool:
        """Return False if the devices of a veth pair with this router's stem belong to another router."""
        found = self._claimants.get(claims.pair_key(router_id), ())
        winner = self._winners.get(claims.pair_key(router_id))
        return winner == router_id or not found or (winner is None and found[0].owner == router_id)

    def take_affected(self, router_id: str) -> set[str]:
        """Return the ids of other routers that have gained or lost something since the last call."""
        found, self._affected = self._affected, set()
        return {one for one in found if one in self._documents} - {router_id}

    def note_built(self, view: HostView, held: Collection[str] = ()) -> None:
        """Note what a job has built; routers that kept a floating IP until now give it up.

        :param held: addresses that were refused something
        """
        router_id = view.router.id
        won = [key for key, winner in self._winners.items() if winner == router_id]
        new = [key for key in won if not self._possessions.has(router_id, key, unless_noted=False)]
        self._possessions.note(view, held)
        for key in new:
            if self._possessions.has(router_id, key, unless_noted=False):
                self._stamp += 1
                self._affected |= {one.owner for one in self._claimants[key]}

    def note_affected(self, router_ids: Iterable[str]) -> None:
        """Note routers that gain something by what was found outside of their own jobs."""
        self._affected |= set(router_ids)

    def take_rivals(self) -> set[str]:
        """Return the ids of routers that have lost something to a newer document since the last call.

        Their documents may be old.  A round declares documents before their jobs, so any job may find them.
        """
        found, self._rivals = self._rivals, set()
        return {one for one in found if one in self._documents}

    def note_gateway(self, port: RouterPort) -> None:
        """Note the agent gateway port that is in use for its network."""
        owner = network_owner(port.network_id)
        known = self._gateways.get(owner)
        if known is not None and (known[0] is port or known[0] == port):
            return
        found = [(claim.key, owner) for claim in gateway_claims(port)]
        self._gateways[owner] = (port, tuple(key for key, _ in found))
        self._claim(owner, found, known[1] if known is not None else ())

    def forget_gateway(self, network: str) -> None:
        """Forget the agent gateway port of a network that no router here uses any more."""
        known = self._gateways.pop(network_owner(network), None)
        if known is not None:
            self._claim(network_owner(network), (), known[1])

    # --- one document ---

    def _declare(self, router: Router, settings: HostSettings, name: str) -> _Document:
        known = self._documents.get(router.id)
        if known is not None and known.router is router:
            known.name = name or known.name
            return known
        if known is not None and known.router == router:  # read again
            if known.granted is known.router:
                known.granted = router
            known.router, known.name = router, name or known.name
            return known
        self._clock += 0 if self._is_open else 1
        document = _Document(
            router, name or (known.name if known is not None else ""), self._clock, is_left_alone(router, settings)
        )
        self._documents[router.id] = document
        before = known.keys if known is not None else self._undeclared.pop(router.id, ())
        if document.left_alone:
            document.keys = before
            self._claim_held(document)
            return document
        listed = _claims(router, settings)
        wanted = {claim.key: claim.thing for claim in listed}
        document.keys = tuple(wanted)
        self._claim(router.id, wanted.items(), before)
        return document

    def _claim_held(self, document: _Document) -> None:
        """Let a router that is left alone claim what the kernel has of it now.

        That is part of what it claimed before it was left alone, part of what its document would claim if it were
        built, and what the kernel tells without a document.
        """
        router, before = document.router, document.keys
        self._holdings.read_again(router.id)
        found = self._holdings.of(router.id)
        things = {key: one.thing for key in before for one in self._claimants.get(key, ()) if one.owner == router.id}
        things |= {claim.key: claim.thing for claim in claims.own_claims_anywhere(router)}
        wanted = {key: thing for key, thing in things.items() if found.has(key, router)}
        wanted |= {key: router.id for key in self._holdings.keys_of(router.id) if key not in wanted}
        document.keys = tuple(wanted)
        self._claim(router.id, wanted.items(), before)

    def _evaluate(self, document: _Document, settings: HostSettings) -> None:
        """Compute what may be built of a document."""
        router = document.router
        for claim in self._refused_gateways(router, settings, document):
            document.keys = (*document.keys, claim.key)
            self._claim(router.id, [(claim.key, claim.thing)], ())
        document.stamp = self._stamp
        lost = document.lost = dict(self._lost(router.id))
        if not lost:
            document.granted = router
            return
        in_use = self._gateways.get(network_owner(router.gateway.network_id)) if router.gateway is not None else None
        view = make_view(router, settings, in_use[0] if in_use is not None else None)
        of_gateways = (claim for port in router.agent_gateways for claim in gateway_claims(port))
        own, theirs = self._omissions(claims_here(view), lost), self._omissions(of_gateways, lost)
        granted = claims.without(router, view, own, theirs)
        if granted != document.granted:
            document.granted = granted

    def _omissions(self, listed: Iterable[Claim], lost: Mapping[str, str]) -> dict[str, Omission]:
        """Return, by key, why some of the claims are not granted."""
        return {claim.key: self._omission(claim, lost[claim.key]) for claim in listed if _is_lost(claim, lost)}

    def _omission(self, claim: Claim, winner: str) -> Omission:
        kind = kind_of(claim.key)
        return Omission(claim.path, f'"{claim.value}"', f"{claims.EXPECTED[kind]}; {self._holder_text(claim, winner)}")

    def _holder_text(self, claim: Claim, winner: str) -> str:
        if winner in self._gateways:
            port = self._gateways[winner][0]
            return f"the agent gateway port {port.id} of network {port.network_id} has it"
        owners = [one.owner for one in self._claimants.get(claim.key, ()) if one.thing == winner]
        router_id = owners[0] if owners else winner
        document = self._documents.get(router_id)
        name = document.name if document is not None else ""
        return f"{f'document {name} of ' if name else ''}router {router_id} has it"

    def _refused_gateways(self, router: Router, settings: HostSettings, document: _Document) -> Iterator[Claim]:
        """Yield the claims of agent gateway ports that another owner has, so that they cannot be chosen."""
        for port in agent_gateways(router, settings):
            owner = network_owner(port.network_id)
            for claim in gateway_claims(port):
                present = self._claimants.get(claim.key, ())
                found = [one for one in present if one.thing != owner]
                if not found or self._is_in_use(owner, claim.key) or any(one.owner == router.id for one in present):
                    continue
                own = self._rank(claim.key, _Claimant(owner, owner, document.age))
                if min(self._rank(claim.key, one) for one in found) < own:
                    yield claim

    # --- claims ---

    def _lost(self, router_id: str) -> Iterator[tuple[str, str]]:
        """Yield (key, thing that has it) of each claim of a router that another has."""
        for key, winner in self._winners.items():
            claims_it = any(one.owner == router_id and one.thing != winner for one in self._claimants[key])
            if claims_it and not self._keeps(router_id, key, winner):
                yield key, winner

    def _keeps(self, router_id: str, key: str, winner: str) -> bool:
        """Return True for a floating IP that the router has, and the winner has not taken yet."""
        document, other = self._documents.get(router_id), self._documents.get(winner)
        if document is None or other is None or document.left_alone or not claims.is_of_fip(document.router, key):
            return False
        was_there = other.age == 0  # only then what the kernel has of it was complete when this process began
        has = self._possessions.has
        return has(router_id, key, unless_noted=True) and not has(winner, key, unless_noted=was_there)

    def _claim(self, owner: str, wanted: Iterable[tuple[str, str]], before: Iterable[str]) -> None:
        """Replace an owner's claims.

        :param wanted: (key, thing)
        :param before: keys that it claims until now
        """
        kept, age = set(), self._age(owner)
        alone: dict[str, tuple[_Claimant, ...]] = {}  # mostly one object for all keys of a router
        for key, thing in wanted:
            kept.add(key)
            found = self._claimants.get(key, ())
            if not found:
                self._claimants[key] = alone.get(thing) or alone.setdefault(thing, (_Claimant(owner, thing, age),))
                continue
            if len(found) == 1 and found[0].owner == owner and found[0].thing == thing:  # as before, and nobody else's
                continue
            since = next((one.since for one in found if one.owner == owner), age)
            others = tuple(one for one in found if one.owner != owner)
            self._claimants[key] = (*others, _Claimant(owner, thing, since))
            self._decide(key, owner)
        for key in before:
            if key not in kept:
                others = tuple(one for one in self._claimants.get(key, ()) if one.owner != owner)
                if others:
                    self._claimants[key] = others
                else:
                    self._claimants.pop(key, None)
                self._decide(key)

    def _decide(self, key: str, newest: str = "") -> None:
        """Decide who has a key, and note whom that affects.

        :param newest: owner of the document that was declared just now: it is not asked for again
        """
        found = self._claimants.get(key, ())
        before = self._winners.get(key)
        contested = len(found) > 1 and any(one.thing != found[0].thing for one in found)
        if not contested and before is None:
            return
        now = min(found, key=lambda one: self._rank(key, one)).thing if contested else None
        if now is None:
            del self._winners[key]
        else:
            self._winners[key] = now
        if now != before:
            self._stamp += 1
            self._affected |= {
                one.owner for one in found if (before in (None, one.thing)) != (now in (None, one.thing))
            }
            if now is not None:
                self._rivals |= {one.owner for one in found if one.thing != now} - {newest}

    def _rank(self, key: str, claimant: _Claimant) -> tuple[bool, int, int, bool, str]:
        """Return the place of a claim in the order of precedence: the lowest has the key.

        An agent gateway port in use comes first: all routers of its network depend on it.
        """
        document = self._documents.get(claimant.owner)
        decides = document is not None and not document.left_alone
        age = document.age if self.newer_wins and document is not None and decides else claimant.since
        router = document.router if document is not None else None
        doubt = self._holdings.of(claimant.owner).doubt(key, router) if age == 0 else 0
        return (
            not self._is_in_use(claimant.owner, key),
            -age if self.newer_wins else age,
            doubt,
            document is not None,
            claimant.owner,
        )

    def _is_in_use(self, owner: str, key: str) -> bool:
        """Return True if the owner is an agent gateway port in use that has the key."""
        return owner in self._gateways and key in self._gateways[owner][1]

    def _age(self, owner: str) -> int:
        """Return the age of a claim that is new."""
        document = self._documents.get(owner)
        if document is not None:
            return document.age
        return self._clock if owner in self._gateways else 0


def _is_lost(claim: Claim, lost: Mapping[str, str]) -> bool:
    """Return True if another thing has what is claimed; lost is also a floating IP to the router's own network."""
    return lost.get(claim.key, claim.thing) != claim.thing


def _claims(router: Router, settings: HostSettings) -> tuple[Claim, ...]:
    """Return what a router claims on this host; nothing if it is not built here."""
    if not router.admin_state_up:
        return ()
    return claims_here(make_view(router, settings))
