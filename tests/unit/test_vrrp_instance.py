"""The packet and the state machine of dvr-vrrp, by the wire table of keepalived as Neutron configures it."""

from __future__ import annotations

import socket
import struct
from typing import Any

import pytest

from dvr_agent.internet_checksum import checksum
from dvr_agent.vrrp.advert import Advert, Speech, decode, encode
from dvr_agent.vrrp.instance import ANNOUNCE_AGAIN, Action, Instance, State

VIP = socket.inet_aton("169.254.0.7")
SPEECH = Speech(7, 2, VIP)
RECORDED = bytes.fromhex("210732010002 02f0 a9fe0007 0000000000000000")
"""An advertisement of keepalived 2.2.7 as Neutron configures it: vrid 7, priority 50, interval 2 s."""
YIELDED = bytes.fromhex("210700010002 34f0 a9fe0007 0000000000000000")


def packet(body: bytes, source: str = "169.254.192.20", ttl: int = 255) -> bytes:
    head = struct.pack("!BBHHHBBH", 0x45, 0xC0, 20 + len(body), 1, 0, ttl, 112, 0)
    return head + socket.inet_aton(source) + socket.inet_aton("224.0.0.18") + body


def test_adverts_are_those_of_keepalived_byte_for_byte() -> None:
    assert encode(SPEECH, 50) == RECORDED
    assert encode(SPEECH, 0) == YIELDED
    assert checksum(RECORDED) == 0


def test_recorded_adverts_count() -> None:
    source = int.from_bytes(socket.inet_aton("169.254.192.20"), "big")
    assert decode(packet(RECORDED), SPEECH) == Advert(50, source)
    assert decode(packet(YIELDED), SPEECH) == Advert(0, source)


def advert(**changes: Any) -> bytes:
    return encode(SPEECH._replace(**changes), 50)


def two_addresses(*addresses: str) -> bytes:
    head = struct.pack("!BBBBBBH", 0x21, 7, 50, len(addresses), 0, 2, 0)
    body = head + b"".join(map(socket.inet_aton, addresses)) + bytes(8)
    return body[:6] + checksum(body).to_bytes(2, "big") + body[8:]


@pytest.mark.parametrize(
    ("received", "reason"),
    [
        (packet(advert(interval=1)), "its interval is 1 s, not 2 s"),
        (packet(advert(address=socket.inet_aton("169.254.0.8"))), "it has another primary address"),
        (packet(RECORDED, ttl=64), "its TTL is 64, not 255"),
        (packet(b"\x31" + RECORDED[1:]), "its version is 3, not 2"),
        (packet(advert(password=b"secret")), "its authentication type is 1"),
        (packet(RECORDED[:6] + b"\0\0" + RECORDED[8:]), "its checksum is wrong"),
        (packet(RECORDED[:10]), "it is too short"),
        (packet(RECORDED[:3] + b"\x07" + RECORDED[4:]), "it is too short for 7 addresses"),
        (b"", "it is too short"),
    ],
)
def test_adverts_that_keepalived_drops_are_ignored(received: bytes, reason: str) -> None:
    assert decode(received, SPEECH) == reason


def test_advert_of_another_virtual_router_is_none_of_ours() -> None:
    assert decode(packet(advert(vr_id=8)), SPEECH) is None


def test_two_addresses_one_of_them_right_count() -> None:
    assert isinstance(decode(packet(two_addresses("169.254.0.7", "169.254.0.9")), SPEECH), Advert)
    assert isinstance(decode(packet(two_addresses("169.254.0.8", "169.254.0.9")), SPEECH), str)


def test_password_is_compared_in_its_first_eight_bytes() -> None:
    ours = SPEECH._replace(password=b"longer-password")
    assert isinstance(decode(packet(encode(SPEECH._replace(password=b"longer-p"), 50)), ours), Advert)
    assert decode(packet(encode(SPEECH._replace(password=b"other"), 50)), ours) == "its password is another one"
    assert decode(packet(RECORDED), ours) == "its authentication type is 0"


LOW, OWN, HIGH = 1, 5, 9


def instance(now: float = 0.0, holds: bool = False) -> Instance:
    made = Instance(2, 50, OWN)
    made.start(now, holds)
    return made


def master(now: float = 0.0) -> Instance:
    return instance(now, holds=True)


def test_backup_becomes_master_after_three_intervals_and_skew() -> None:
    one = instance()
    assert (one.state, one.deadline) == (State.BACKUP, pytest.approx(6.8046875))
    assert one.expire(6.7) == ()
    assert one.expire(6.9) == (Action.SEND, Action.TAKE, Action.ANNOUNCE)
    assert (one.state, one.deadline) == (State.MASTER, pytest.approx(8.9))


def test_backup_waits_again_after_each_advert_whatever_its_priority() -> None:
    one = instance()
    for now, priority in ((2.0, 50), (4.0, 1), (6.0, 254)):
        assert one.receive(now, Advert(priority, LOW)) == ()
        assert one.deadline == pytest.approx(now + 6.8046875)


def test_backup_follows_a_master_that_yields_after_its_skew() -> None:
    one = instance()
    assert one.receive(1.0, Advert(0, LOW)) == ()
    assert one.deadline == pytest.approx(1.8046875)
    assert Action.TAKE in one.expire(1.9)


@pytest.mark.parametrize(
    ("advert", "stays"),
    [
        (Advert(50, LOW), True),
        (Advert(49, HIGH), True),
        (Advert(0, HIGH), True),
        (Advert(50, HIGH), False),
        (Advert(51, LOW), False),
    ],
)
def test_of_two_masters_the_higher_priority_or_address_stays(advert: Advert, stays: bool) -> None:
    one = master()
    actions = one.receive(1.0, advert)
    assert one.state is (State.MASTER if stays else State.BACKUP)
    assert actions == ((Action.SEND, Action.ANNOUNCE) if stays else (Action.RELEASE, Action.PROMPT))
    assert one.deadline == pytest.approx(3.0 if stays else 7.8046875)


def test_process_that_finds_the_addresses_goes_on_as_master_at_once() -> None:
    one = Instance(2, 50, OWN)
    assert one.start(0.0, holds_addresses=True)[0] is Action.SEND
    assert one.state is State.MASTER


def test_master_advertises_each_interval_and_announces_once_more() -> None:
    one, sent, announced, now = master(), 0, [], 0.0
    while now < 130:
        assert one.deadline is not None
        now = one.deadline
        actions = one.expire(now)
        sent += actions.count(Action.SEND)
        announced += [now] * actions.count(Action.ANNOUNCE)
    assert sent == 65
    assert announced == [ANNOUNCE_AGAIN]


def test_interface_that_goes_down_ends_the_state_and_one_that_comes_up_begins_as_backup() -> None:
    one = master()
    assert one.lose_interface(1.0) == (Action.RELEASE,)
    assert (one.state, one.deadline) == (State.FAULT, None)
    assert one.receive(1.5, Advert(50, HIGH)) == ()
    assert one.lose_interface(1.6) == ()
    assert one.regain_interface(2.0) == ()
    assert (one.state, one.deadline) == (State.BACKUP, pytest.approx(8.8046875))
    assert one.regain_interface(3.0) == ()
    assert one.deadline == pytest.approx(8.8046875)


def test_host_that_does_not_reach_its_gateways_yields_and_takes_part_again_as_backup() -> None:
    one = master()
    assert one.lose_gateway(1.0) == (Action.RELEASE, Action.YIELD)
    assert (one.state, one.deadline) == (State.FAULT, None)
    assert one.lose_interface(2.0) == ()
    assert one.regain_gateway(3.0) == ()
    assert one.state is State.FAULT, "its interface is down still"
    assert one.regain_interface(4.0) == ()
    assert (one.state, one.deadline) == (State.BACKUP, pytest.approx(10.8046875))
    one = master()
    one.lose_gateway(1.0)
    one.regain_interface(2.0)
    assert one.state is State.FAULT
    one.regain_gateway(3.0)
    assert (one.state, one.deadline) == (State.BACKUP, pytest.approx(9.8046875))


def test_master_that_ends_releases_its_addresses_before_another_host_takes_them() -> None:
    assert master().end(1.0) == (Action.RELEASE, Action.YIELD)
    assert instance().end(1.0) == ()
