"""Refuses each object of a job, with each errno, on the real kernel beside routers in use.

What depends on the refused object stays as it was, everything else is made: new connections through every address tell.
"""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench.reliability.api import Figure, Options
from bench.reliability.gate import Write
from bench.reliability.ways import FIPS, SCENARIOS, VMS, Site, Ways
from dvr_agent.errors import DvrError
from dvr_agent.model.router import Router
from dvr_agent.reconcile.api import RefusedError

CODES = (errno.EPERM, errno.ENOMEM, errno.EBUSY, errno.EEXIST, errno.EINVAL, errno.ENETUNREACH, errno.ENODEV,
         errno.ENOBUFS)  # fmt: skip
PER_OBJECT = 2
"""Each object is refused with so many of the errors; which ones changes from one to the next."""
QUICK_SCENARIOS, QUICK_STRIDE = ("another floating IP",), 2


class Trials:
    """The refusals of one change after the other.

    :ivar refusals: how many there were
    :ivar kinds: what was refused
    :ivar connections: how many were opened after them
    """

    def __init__(self, site: Site) -> None:
        self._site = site
        self.refusals = self.connections = 0
        self.kinds: set[str] = set()

    def run(self, name: str, stride: int, each: int) -> Iterator[str]:
        """Refuse each write, or each of so many; yields what went wrong."""
        site = self._site
        before, after = site.routers(SCENARIOS[name])
        old, new, writes = site.ends(before, after)
        with site.undisturbed(before, after):
            for number in range(1, writes + 1, stride):
                for turn in range(each):
                    site.gate.close(refuse_at=number, code=CODES[(number * each + turn) % len(CODES)])
                    yield from self._try(name, after, old, new)
                    site.make(before)
        site.make(None)

    def _try(self, name: str, after: Router | None, old: Ways, new: Ways) -> Iterator[str]:
        """Have the job done, and the refusal end."""
        site, held = self._site, frozenset[str]()
        try:
            site.make(after)
            said = ""
        except DvrError as exc:
            held, said = getattr(exc, "held", held), str(exc)
            errors = len(exc.errors) if isinstance(exc, RefusedError) else 1
            refused = site.gate.met
            if refused is not None and (errors != 1 or not _names(said, refused, site.gate.code)):
                yield f"{name}, refused {refused}: said is: {said}"
        refused = site.gate.met
        if refused is None:  # this way the job never comes there
            return
        self.refusals += 1
        self.kinds.add(refused.kind)
        what = f"{name}, refused {refused} with {errno.errorcode[site.gate.code]}"
        if said:  # else the error is one that means, of this object, that it is as it should be
            # While an address of the gateway lacks, the old one stays, and what is behind it.
            central = new.central if "dev qg-" in str(refused) else set[str]()
            yield from (f"{what}: {fault}; said: {said}" for fault in self._faults(held, central, old, new))
        site.gate.open()
        site.make(after)
        healed = site.ways(new, new)
        yield from (f"{what}, then repeated: {fault}" for _, fault in healed.faults(new, new))
        if after is not None and site.reconciler.planner.plan(after):
            yield f"{what}: the next try does not heal it"

    def _faults(self, held: frozenset[str], central: set[str], old: Ways, new: Ways) -> Iterator[str]:
        """Yield the addresses that are neither on the old nor on the new way, and those on the old one without need."""
        found = self._site.ways(old, new)
        self.connections += len(found)
        sides = old.changing_sides(new)
        yield from (fault for name, fault in found.faults(old, new) if name not in sides)
        for name, address in self._addresses():
            was, now, will = old.of(name), found.of(name), new.of(name)
            is_floating = was is not None and (will in FIPS or name in FIPS) and name not in sides | central
            if is_floating and now != will and address not in held:
                yield f"{name} is left on its old path, without being held"

    def _addresses(self) -> Iterator[tuple[str, str]]:
        """Yield all instances and floating IPs, with the address by which a job holds them."""
        yield from ((name, self._site.world.cloud.vms[name].address) for name in VMS)
        yield from zip(FIPS, FIPS, strict=True)


def _names(text: str, refused: Write, code: int) -> bool:
    return errno.errorcode[code] in text and refused.namespace in text


def measure(options: Options) -> Figure:
    """Refuse the objects of each change."""
    wrong = list[str]()
    names = QUICK_SCENARIOS if options.quick else tuple(SCENARIOS)
    with tempfile.TemporaryDirectory(prefix="dvr-refused-") as base, Site(Path(base)) as site:
        trials = Trials(site)
        for name in names:
            wrong += trials.run(name, QUICK_STRIDE if options.quick else 1, 1 if options.quick else PER_OBJECT)
    text = (
        f"{trials.refusals:,} objects refused ({len(trials.kinds)} kinds × {len(CODES)} errors): {len(wrong)} ended "
        f"otherwise than promised, of {trials.connections:,} new connections too; {site.lost} of {site.sent:,} pings "
        "that depend on none of them lost"
    )
    return Figure(text, not wrong and not site.lost and trials.refusals > 0, (*wrong[:40], *site.losses))
