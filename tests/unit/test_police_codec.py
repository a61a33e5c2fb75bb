"""Limits in traffic control, byte by byte: as tc of iproute2 6.1 sends them, and back from what the kernel lists."""

from __future__ import annotations

import struct
import sys

from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.rtnl.tcmsg import tcmsg

from dvr_agent.kernel.netlink import message, police, policer
from dvr_agent.kernel.netlink.message import Request
from dvr_agent.kernel.netlink.schema import attribute
from dvr_agent.state.limit import DIRECTIONS, MAX_ABOVE_RATE, MAX_RATE, MIN_BURST, Limit, make_limit
from dvr_agent.state.policer import Policer

DEVICE, INDEX = "qg-1", 7
LIMIT = make_limit(DEVICE, "leaving", "203.0.113.5", 1000, 800)
BY_TC = (
    "74040700700401000b000100706f6c6963650000"
    "4c0402803c000100000000000200000000000000286bee00ffffffff18010000ffff000048e80100"
    "00000000000000000000000000000000000000000000000004040200" + "00" * 1024 + "08000500ffffffff"
    "140006006476722d716f733a000000000001e848"
    "2400050001000100000000000000000000000000ffffffffcb0071050c00000000000000"
)
"""The options of ``tc filter add dev lo egress protocol ip prio 210 u32 match ip src 203.0.113.5 action police rate
1000kbit burst 125000b mtu 4294967295b conform-exceed drop/continue cookie 6476722d716f733a000000000001e848``, but for
the table of times, which the kernel does not look at."""

limits = st.builds(
    lambda direction, rate, more: Limit(DEVICE, direction, "203.0.113.5", rate, max(rate + more, MIN_BURST)),
    st.sampled_from(DIRECTIONS),
    st.integers(1, MAX_RATE),
    st.just(0) | st.integers(0, MAX_ABOVE_RATE),
)


def listed(limit: Limit, handle: int = 0x80000800, drops: int = 0) -> bytes:
    """The filter as the kernel lists it: no table of times, statistics, a cell size of 0."""
    body = police.put_filter(limit, INDEX, handle).body
    cells = body.index(struct.pack("=BBHhH", 24, 1, 0, -1, 0))
    table = body.index(attribute(2, bytes(1024)))
    kept = body[:cells] + struct.pack("=BBHhH", 0, 1, 0, 0, 0) + body[cells + 8 : table]
    rest = body[table + 1028 :]
    stats = attribute(4, attribute(1, bytes(16)) + attribute(3, struct.pack("=5I", 0, 0, drops, 0, drops)))
    at = rest.index(police.COOKIE) - 4
    return _resized(kept + rest[:at] + stats + rest[at:], len(stats) - 1028, len(stats))


def _resized(data: bytes, by: int, stats: int) -> bytes:
    """With the sizes of the attributes around what was taken out and put in."""
    found = bytearray(data)
    at = police.FILTER.size + 8  # behind the kind
    for offset, change in ((at, by), (at + 4, by), (at + 8, by), (at + 24, by - stats)):
        (size,) = struct.unpack_from("=H", found, offset)
        struct.pack_into("=H", found, offset, size + change)
    return bytes(found)


def decoded(*messages: bytes) -> list[police.PoliceFilter]:
    return list(police.decode_filters(messages, DEVICE, "leaving"))


def theirs(request: Request) -> tcmsg:
    """What pyroute2 makes of our message."""
    found = tcmsg(message.HEADER.pack(16 + len(request.body), request.kind, request.flags, 1, 0) + request.body)
    found.decode()
    return found


def test_a_filter_is_what_tc_sends() -> None:
    request = police.put_filter(LIMIT, INDEX)
    assert request.body[:20] == struct.pack("=BxxxiIII", 0, INDEX, 0, 0xFFFFFFF3, 13762568)
    assert request.body[20:28] == attribute(1, b"u32\0")
    assert request.body[28:] == attribute(2, bytes.fromhex(BY_TC))
    assert request.flags == message.CREATE
    match, police_text = "u32 match ip src 203.0.113.5", "police rate 1000000bit burst 125000b"
    assert request.text == f"tc filter dev qg-1 egress protocol ip prio 210 {match} {police_text}"


def test_a_filter_is_replaced_in_its_place() -> None:
    replaced = theirs(police.put_filter(LIMIT._replace(direction="entering"), INDEX, 0x80000801))
    assert (replaced["handle"], replaced["parent"], replaced["index"]) == (0x80000801, 0xFFFFFFF2, INDEX)
    assert not police.put_filter(LIMIT, INDEX, 1).flags & 0x200  # NLM_F_EXCL
    removed = theirs(police.delete_filter(LIMIT, INDEX, 0x80000801))
    assert (removed["handle"], removed["parent"], removed["info"]) == (0x80000801, 0xFFFFFFF3, police.info_of(210))
    assert replaced["info"] == police.info_of(211)


def test_pyroute2_reads_the_qdisc() -> None:
    made, gone = (
        theirs(one) for one in (police.add_clsact(DEVICE, 3), police.delete_ingress_qdisc(DEVICE, 3, "clsact"))
    )
    for one in (made, gone):
        assert (one["index"], one["handle"], one["parent"]) == (3, 0xFFFF0000, 0xFFFFFFF1)
        assert one.get_attr("TCA_KIND") == "clsact"


@given(limits)
def test_what_was_written_is_read(limit: Limit) -> None:
    (found,) = police.decode_filters([listed(limit, drops=9)], DEVICE, limit.direction)
    assert found == (0x80000800, limit, 9)
    assert not decoded(listed(limit)) or limit.direction == "leaving"


@given(limits)
def test_pyroute2_reads_the_same_action(limit: Limit) -> None:
    options = theirs(police.put_filter(limit, INDEX)).get_attr("TCA_OPTIONS")
    action = options.get_attr("TCA_U32_ACT").get_attr("TCA_ACT_PRIO_1")
    found = action.get_attr("TCA_ACT_OPTIONS").get_attr("TCA_POLICE_TBF")
    assert action.get_attr("TCA_ACT_KIND") == "police"
    assert (found["action"], found["rate"], found["mtu"]) == (2, min(limit.rate, 2**32 - 1), 2**32 - 1)
    assert found["burst"] == min(limit.burst * 15_625_000 // limit.rate, 2**32 - 1)


def test_a_rate_above_32_bits_has_an_attribute_of_its_own() -> None:
    fast = LIMIT._replace(rate=MAX_RATE, burst=MAX_RATE)
    assert attribute(8, MAX_RATE.to_bytes(8, sys.byteorder)) in police.put_filter(fast, INDEX).body
    assert [one.limit for one in decoded(listed(fast))] == [fast]


def test_filters_of_others_are_no_limits() -> None:
    ours = listed(LIMIT)
    other_cookie = ours.replace(police.COOKIE, b"another:")
    other_priority = ours[:16] + struct.pack("=I", police.info_of(1)) + ours[20:]
    two_keys = ours.replace(b"\x24\0\x05\0\x01\0\x01", b"\x24\0\x05\0\x01\0\x02")
    other_kind = ours.replace(b"u32\0", b"bpf\0")
    assert two_keys != ours
    assert decoded(other_cookie, other_priority, two_keys, other_kind, ours[:20]) == []
    assert decoded(ours)


def test_a_filter_of_ours_that_was_changed_limits_otherwise() -> None:
    ours = listed(LIMIT)
    burst, mtu = (struct.pack("=I", number) for number in (15_625_000, 2**32 - 1))
    for changed in (
        ours.replace(burst + mtu, struct.pack("=I", 15_625_001) + mtu),
        ours.replace(burst + mtu, burst + struct.pack("=I", 2048)),
        ours.replace(b"\x08\0\x05\0\xff\xff\xff\xff", b"\x08\0\x05\0\0\0\0\0"),
        ours.replace(b"police\0", b"gact\0\0\0"),
    ):
        assert changed != ours
        assert [one.limit for one in decoded(changed)] == [LIMIT._replace(rate=0, burst=0)]


def test_priorities_and_hash_tables_are_no_filters() -> None:
    kind = attribute(1, b"u32\0")
    heads = [struct.pack("=BxxxiIII", 0, INDEX, handle, 0xFFFFFFF3, 13762568) + kind for handle in (0, 0x80000000)]
    matchall = struct.pack("=BxxxiIII", 0, INDEX, 1, 0xFFFFFFF3, 13762568) + attribute(1, b"matchall\0")
    assert police.count_filters([*heads, listed(LIMIT), matchall]) == 2


def test_stale_filters_of_ours_are_deleted_at_their_hook_or_with_their_qdisc() -> None:
    one = Policer(0x80000800, 0xFFFFFFF3, DEVICE, "leaving", "203.0.113.5")
    assert policer.delete_policer(one, INDEX).body == police.delete_filter(LIMIT, INDEX, 0x80000800).body
    assert one.text == "tc filter dev qg-1 parent ffff:fff3 handle 800::800 match ip src 203.0.113.5"
    whole = Policer(0, police.CLSACT, DEVICE, "entering", "")
    assert policer.delete_policer(whole, INDEX).body == police.delete_ingress_qdisc(DEVICE, INDEX, "clsact").body
    assert whole.text == "tc qdisc dev qg-1 clsact"
