"""What ``dvrctl diag`` masks: by where a value stands, and once it is known wherever it stands."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvr_agent.cli.diag.secret_filter import LONGEST_LINE, MASK, WELL_KNOWN, SecretFilter, is_secret_name

SECRETS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=6, max_size=40).filter(
    lambda text: text.lower() not in WELL_KNOWN and MASK not in text and not set(text) & set("\"'#$%,")
)
AROUND = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12)


@given(SECRETS, AROUND, AROUND)
def test_a_known_value_is_nowhere_whatever_it_is_encoded_as(secret: str, before: str, after: str) -> None:
    filter_ = SecretFilter()
    filter_.config(f"[group]\npassword = {secret}\n")
    data = secret.encode()
    forms = [
        secret,
        quote(secret, safe=""),
        quote_plus(secret),
        json.dumps(secret)[1:-1],
        data.hex(),
        data.hex().upper(),
    ]
    for form in forms:
        assert form not in filter_.text(f"x{form}y").removeprefix("x").removesuffix("y")
    packed = base64.b64encode(before.encode() + data + after.encode()).decode()
    whole = base64.b64encode(data).decode().rstrip("=")
    cleaned = filter_.text(f"header {packed}")
    assert whole[:-2] not in cleaned
    longest = max((len(part) for part in cleaned.removeprefix("header ").split(MASK)), default=0)
    assert longest <= len(packed) - 4


@pytest.mark.parametrize(
    "line",
    [
        "password=VALUE",
        'password = "VALUE"',
        "{'auth_token': 'VALUE'}",
        '{"adminPass": "VALUE", "x": 1}',
        "X-Auth-Token: VALUE",
        "X-Subject-Token : VALUE",
        "metadata_proxy_shared_secret: VALUE,",
        "api_key=>VALUE",
        "rabbit://user:VALUE@host:5672/",
        "rabbit://user:VALUE@one:5672,user:VALUE@two/",
        "mysql+pymysql://neutron:VALUE@host/neutron",
        "https://user:VA/LUE@host/",
        "Authorization: Bearer VALUE123",
        "auth_pass VALUE",
        "--os-password VALUE",
        "snmp community: VALUE",
        "<adminPass>VALUE</adminPass>",
        "Set-Cookie: VALUE",
        "Environment=OS_PASSWORD=VALUE",
    ],
)
def test_a_value_that_is_not_known_is_masked_where_its_name_tells(line: str) -> None:
    cleaned = SecretFilter().text(f"before {line} after")
    assert "VALUE" not in cleaned
    assert "VA/LUE" not in cleaned
    assert cleaned.startswith("before ")


@pytest.mark.parametrize(
    "line",
    [
        "router 1ea71481-0c58-5b39-8d83-30b053d31c06 (one): added: 3 routes",
        "token_cache_time = 300",
        "ssl_key_file = /etc/neutron/key.pem",
        "http://keystone.example/v3",
        "tcp:127.0.0.1:6640",
        "-A dvr-PREROUTING -d 203.0.113.101/32 -i rfp-1ea71481-0 -j DNAT --to-destination 10.10.1.11",
        "packets pass through the namespace",
    ],
)
def test_what_is_no_secret_stays(line: str) -> None:
    assert SecretFilter().text(line) == line


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("[a]\npassword = x y z\nname = b\n", "[a]\npassword = ***\nname = b\n"),
        ("# password = abc\n", "# password = ***\n"),
        ("secret =\n  one\n  two\nname = b\n", "secret =\n ***\n ***\nname = b\n"),
        ("transport_url = rabbit://u:p@h1,u:q@h2/v\n", "transport_url = rabbit://***@h2/v\n"),
        ("password =\nname = b\n", "password =\nname = b\n"),
    ],
)
def test_a_configuration_file_keeps_its_form(text: str, wanted: str) -> None:
    assert SecretFilter().config(text) == wanted


def test_json_keeps_its_form_and_its_secrets_are_learned() -> None:
    filter_ = SecretFilter()
    text = json.dumps(
        {"a": [{"user_password": {"deep": ["abcdefgh", 12345678]}}], "id": "x", "auth": None, "token": False}
    )
    assert json.loads(filter_.json(text)) == {
        "a": [{"user_password": MASK}],
        "id": "x",
        "auth": None,
        "token": False,
    }
    assert filter_.text("abcdefgh 12345678") == f"{MASK} {MASK}"
    assert "secretvalue" not in filter_.json('{"password": "secretvalue", ')


def test_words_that_are_no_secret_by_themselves_are_masked_only_where_their_name_tells() -> None:
    filter_ = SecretFilter()
    assert filter_.config("password = neutron\nstate_path = /var/lib/neutron\n") == (
        "password = ***\nstate_path = /var/lib/neutron\n"
    )
    assert filter_.config("token_workers = 1000\nmtu = 1000\n") == "token_workers = ***\nmtu = 1000\n"


def test_names() -> None:
    secret = [
        "password",
        "admin_token",
        "ha_vrrp_auth_password",
        "api_key",
        "OS_PASSWORD",
        "memcache_secret_key",
        "pass",
    ]
    assert all(map(is_secret_name, secret))
    assert not any(map(is_secret_name, ["host", "ssl_key_file", "token_expiration", "auth_url", "state_path", "key"]))


def test_a_hostile_text_is_done_in_no_time() -> None:
    for text in (
        "secret" * 20_000,
        "a." * 50_000 + "://",
        "password=" * 10_000,
        "://x:y" * 10_000,
        '"' * 50_000 + "token",
    ):
        assert SecretFilter().text(text).startswith(MASK)
        SecretFilter().text(text[-LONGEST_LINE:])
    assert len(SecretFilter().text("harmless " * 100_000)) == 900_000
