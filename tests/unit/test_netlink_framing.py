"""Requests are split into portions that one send takes, and packed with numbers that follow each other."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink import NLM_F_ACK, NLM_F_REQUEST

from dvr_agent.kernel.netlink.framing import BATCH_BYTES, BATCH_MESSAGES, HEADER_SIZE, chunks, messages, pack
from dvr_agent.kernel.netlink.message import Request

sizes = st.lists(st.sampled_from([0, 4, 52, 400, BATCH_BYTES // 2, BATCH_BYTES, 2 * BATCH_BYTES]), max_size=300)


@given(sizes)
def test_portions_are_all_requests_in_their_order_and_one_send_takes_each(found: list[int]) -> None:
    requests = [Request(number, 0, bytes(size), "one") for number, size in enumerate(found)]
    portions = [list(portion) for portion in chunks(requests)]
    assert [request for portion in portions for request in portion] == requests
    for portion in portions:
        size = sum(HEADER_SIZE + len(request.body) for request in portion)
        assert len(portion) == 1 or (len(portion) <= BATCH_MESSAGES and size <= BATCH_BYTES)


@given(st.lists(st.integers(0, 20).map(lambda words: bytes(4 * words)), min_size=1, max_size=10))
def test_only_the_last_message_asks_for_an_acknowledgement(bodies: list[bytes]) -> None:
    packed = pack([Request(16 + number, 0x400, body, "one") for number, body in enumerate(bodies)], 7, NLM_F_ACK)
    found = list(messages(packed, len(packed)))
    assert [packed[start:end] for _kind, _flags, _number, start, end in found] == bodies
    assert [(kind, number) for kind, _flags, number, _start, _end in found] == [
        (16 + number, 7 + number) for number in range(len(bodies))
    ]
    flags = [flags for _kind, flags, _number, _start, _end in found]
    assert flags == [0x400 | NLM_F_REQUEST] * (len(bodies) - 1) + [0x400 | NLM_F_REQUEST | NLM_F_ACK]
