"""Fields of the journal that are read from a line."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from dvr_agent.journal_fields import fields_of

ROUTER = "1ea71481-0c58-5b39-8d83-30b053d31c06"
NETWORK = "2ea71481-0c58-5b39-8d83-30b053d31c07"
JOB = SimpleNamespace(router_id=ROUTER, floating_ips=frozenset({"203.0.113.5"}))


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("ready", {}),
        (f"router {ROUTER} (web): added: 1 route", {"router_id": ROUTER}),
        (f"snat-{ROUTER}: + route", {"router_id": ROUTER, "namespace": f"snat-{ROUTER}"}),
        (f"fip-{NETWORK}: + route 203.0.113.5/32", {"namespace": f"fip-{NETWORK}"}),
        (f"network {NETWORK}: bridge missing", {}),
    ],
)
def test_a_line_of_no_job_has_what_its_text_names(text: str, fields: dict[str, str]) -> None:
    assert fields_of(text) == fields


@pytest.mark.parametrize(
    ("text", "floating_ip"),
    [
        ("+ address 203.0.113.5/32 dev qg-1", "203.0.113.5"),
        ("-d 203.0.113.5 -j DNAT", "203.0.113.5"),
        ("10.0.0.9 is 203.0.113.5, says the document", "203.0.113.5"),
        ("203.0.113.50", ""),
        ("1203.0.113.5", ""),
        ("::ffff:203.0.113.5", ""),
    ],
)
def test_a_line_of_a_job_names_the_floating_ip_of_its_router(text: str, floating_ip: str) -> None:
    found = fields_of(f"fip-{NETWORK}: {text}", JOB)
    assert found.get("floating_ip", "") == floating_ip
    assert found["router_id"] == ROUTER
