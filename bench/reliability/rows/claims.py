"""Promises about documents that claim the same things."""

from __future__ import annotations

from bench.reliability import claims, claims_neutron
from bench.reliability.api import Promise

PROMISES = (
    Promise(
        "claims",
        "No document takes anything from another router: floating IPs, addresses, MAC addresses, device names; who has "
        "a thing depends neither on memory nor on the order of documents, and it goes to the next one at once.",
        "A register of claims decides before anything is planned: the holder with documents in a directory, the newer "
        "document of neutron-server (reconcile/claims.py); the kernel says who holds after a restart "
        "(reconcile/holdings.py).",
        ("tests/unit/test_claims.py", "tests/functional/test_claims.py"),
        claims.every_way,
    ),
    Promise(
        "claims-neutron",
        "Of two documents of neutron-server the newer has what both claim, the older router is asked for again, and "
        "the floating IP that it loses is reported as ERROR.",
        "The job's report names the other router (daemon/jobs.py), the source asks for it (sources/neutron/source.py).",
        (
            "tests/replay/test_faults.py::test_the_newer_document_has_a_floating_ip_and_the_older_router_is_asked_for",
            "tests/unit/test_neutron_statuses.py",
        ),
        claims_neutron.measure,
    ),
    Promise(
        "claims-cost",
        "Where no claims collide, the register costs less than 2 % of a resync.",
        "A job on an unchanged document compares one identity and one number (reconcile/claims.py).",
        ("tests/unit/test_claims.py::test_an_unchanged_router_is_not_compared_again",),
        claims.cost,
    ),
)
