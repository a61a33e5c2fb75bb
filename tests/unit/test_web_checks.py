"""Which requests the page answers, and what the headers of its answers forbid."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvr_agent.web.checks import POLICY, is_loopback_name, refuse, refuse_stranger

LOCAL = {"HTTP_HOST": "localhost:9699", "REQUEST_METHOD": "GET"}


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:9699", "127.1.2.3", "[::1]", "[::1]:65535"])
def test_names_of_this_host(host: str) -> None:
    assert is_loopback_name(host)


@pytest.mark.parametrize(
    "host",
    ["", "localhost.", "localhost.evil.example", "evil.example:80", "192.0.2.1", "::1", "[::1", "[::2]", "0.0.0.0",
     "127.0.0.1:", "127.0.0.1:123456", "localhost:80:80", "localhost@evil", "127.1", "2130706433", "[::ffff:192.0.2.1]",
     "localhost\n"],
)  # fmt: skip
def test_names_of_others(host: str) -> None:
    assert not is_loopback_name(host)


@given(st.text(max_size=80))
def test_no_name_breaks_the_check(host: str) -> None:
    if is_loopback_name(host):
        assert host.lower().startswith(("localhost", "127.", "["))


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({}, None),
        ({"HTTP_SEC_FETCH_SITE": "same-origin"}, None),
        ({"HTTP_SEC_FETCH_SITE": "none"}, None),
        ({"HTTP_SEC_FETCH_SITE": "cross-site"}, "403"),
        ({"HTTP_SEC_FETCH_SITE": "same-site"}, "403"),
        ({"REQUEST_METHOD": "POST"}, "405"),
        ({"REQUEST_METHOD": "HEAD"}, "405"),
        ({"HTTP_HOST": "evil.example"}, "421"),
    ],
)
def test_refusals(change: dict[str, str], status: str | None) -> None:
    refusal = refuse({**LOCAL, **change})
    assert (refusal and refusal.status.split()[0]) == status


@given(st.text(st.characters(max_codepoint=255), max_size=60))
def test_only_the_token_is_the_token(given_text: str) -> None:
    refusal = refuse_stranger({"HTTP_AUTHORIZATION": given_text}, "the-token")
    assert refusal is not None
    assert "the-token" not in refusal.text


def test_the_token_is_accepted() -> None:
    assert refuse_stranger({"HTTP_AUTHORIZATION": "Bearer the-token"}, "the-token") is None
    assert refuse_stranger({"HTTP_AUTHORIZATION": "bearer  the-token "}, "the-token") is None
    assert refuse_stranger({}, "the-token") is not None


def test_the_policy_allows_nothing_from_elsewhere() -> None:
    rules = dict(rule.split(" ", 1) for rule in POLICY.split("; "))
    assert rules["default-src"] == "'none'"
    assert set(" ".join(rules.values()).split()) == {"'none'", "'self'", "data:"}
