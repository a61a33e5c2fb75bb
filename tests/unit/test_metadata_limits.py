"""Rate limits and turns of the metadata proxy."""

from __future__ import annotations

import asyncio

import pytest

from dvr_agent.metadata.settings import Rate
from dvr_agent.metadata_proxy.fd_budget import RESERVE, FdBudget
from dvr_agent.metadata_proxy.rate_limit import RateLimit
from dvr_agent.metadata_proxy.upstream_limit import FairQueue, UpstreamSlots


def allowed(limit: RateLimit, client: str, now: float, times: int) -> int:
    return sum(limit.allows(client, now) for _ in range(times))


def test_without_rates_everything_is_allowed() -> None:
    limit = RateLimit(())
    assert allowed(limit, "a", 0, 1000) == 1000
    assert len(limit) == 0


def test_so_many_in_a_window_and_no_more() -> None:
    limit = RateLimit((Rate(10, 10),))
    assert allowed(limit, "a", 100, 15) == 10
    assert allowed(limit, "a", 109, 5) == 0
    assert allowed(limit, "b", 109, 15) == 10


def test_the_window_slides() -> None:
    limit = RateLimit((Rate(10, 10),))
    assert allowed(limit, "a", 100, 10) == 10
    assert allowed(limit, "a", 110, 1) == 0, "the ten of a moment ago still count"
    limit = RateLimit((Rate(10, 10),))
    assert allowed(limit, "a", 100, 10) == 10
    assert allowed(limit, "a", 115, 10) == 5, "half of them are out of the window"
    assert allowed(limit, "a", 200, 20) == 10


def test_both_base_and_burst_hold() -> None:
    limit = RateLimit((Rate(100, 60), Rate(5, 1)))
    assert allowed(limit, "a", 0, 10) == 5
    assert allowed(limit, "a", 2, 10) == 5
    limit = RateLimit((Rate(3, 60), Rate(100, 1)))
    assert allowed(limit, "a", 0, 10) == 3
    assert allowed(limit, "a", 2, 10) == 0


def test_only_so_many_clients_are_remembered_those_that_asked_last() -> None:
    limit = RateLimit((Rate(1, 1000),), clients=3)
    for client in "abc":
        assert limit.allows(client, 0)
    assert not limit.allows("a", 1)
    assert limit.allows("d", 2), "in place of b"
    assert len(limit) == 3
    assert not limit.allows("a", 3)
    assert limit.allows("b", 4)


def test_clients_take_turns() -> None:
    queue: FairQueue[str] = FairQueue()
    for item in ("a1", "a2", "a3", "b1", "c1", "b2"):
        queue.put(item[0], item)
    assert len(queue) == 6
    assert queue.remove("c", "c1")
    assert not queue.remove("c", "c1")
    assert not queue.remove("b", "a1")
    assert queue.pop(lambda client: client == "b") == ("b", "b1")
    queue.put("b", "b3")
    assert [queue.pop() for _ in range(6)] == [("a", "a1"), ("b", "b2"), ("a", "a2"), ("b", "b3"), ("a", "a3"), None]


def test_a_slot_is_given_on_whatever_becomes_of_those_who_wait() -> None:
    async def story() -> None:
        slots = UpstreamSlots(1)
        order: list[str] = []

        async def work(name: str, seconds: float = 60) -> None:
            await slots.acquire(name, seconds)
            order.append(name)
            slots.release(name)

        await slots.acquire("x", 60)
        with pytest.raises(TimeoutError):
            await work("late", 0.01)
        tasks = [asyncio.create_task(work(name)) for name in "abcd"]
        await asyncio.sleep(0)
        tasks[0].cancel()
        slots.release("x")
        tasks[1].cancel()  # at the moment when it is its turn
        await asyncio.gather(*tasks, return_exceptions=True)
        assert order == ["c", "d"]
        await slots.acquire("y", 0.01)

    asyncio.run(story())


def test_descriptors_are_kept_for_the_control_socket_and_for_requests() -> None:
    budget = FdBudget(RESERVE + 100)
    assert budget.for_upstream == 25
    budget.listeners = 10
    budget.clients = 64
    assert budget.room_for_client()
    budget.clients = 65
    assert not budget.room_for_client()
    budget.closing = 1
    assert budget.room_for_client()
    assert budget.room_for_listeners(4)
    assert not budget.room_for_listeners(65)
