"""Compares documents with each other, without a host: what two of them claim, for ``dvrctl check``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from dvr_agent.desired.claims import EXPECTED, Claim, claims_anywhere, kind_of
from dvr_agent.model.router import Omission, Router


class Rivals(NamedTuple):
    """One value that two documents claim.

    :ivar claim: of the document in question
    :ivar other: name of the other document
    :ivar theirs: the other document's claim
    """

    claim: Claim
    other: str
    theirs: Claim

    @property
    def omission(self) -> Omission:
        """The claim as an object that cannot be built, if the other document's is."""
        where = f"{self.other} has it, too: {self.theirs.path}"
        return Omission(self.claim.path, f'"{self.claim.value}"', f"{EXPECTED[kind_of(self.claim.key)]}; {where}")


def find_rivals(documents: Iterable[tuple[str, Router]]) -> dict[str, list[Rivals]]:
    """Return name → what the document and an earlier or later one claim both.

    A router that is administratively down claims nothing.
    """
    first: dict[str, tuple[str, Claim]] = {}
    found: dict[str, list[Rivals]] = {}
    for name, router in documents:
        if not router.admin_state_up:
            continue
        for claim in claims_anywhere(router):
            other, theirs = first.setdefault(claim.key, (name, claim))
            if theirs.thing != claim.thing:
                found.setdefault(name, []).append(Rivals(claim, other, theirs))
                found.setdefault(other, []).append(Rivals(theirs, name, claim))
    return found
