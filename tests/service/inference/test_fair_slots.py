"""Turns are shared between callers, and between the requests of a caller, whatever their size."""

import asyncio
from collections.abc import Sequence

from service.inference.fair_slots import FairSlots, Flow, current_flow
from tests.support.waiting import Clock


async def order_of(
    slots: FairSlots, clock: Clock, work: Sequence[tuple[str, Flow, int]], *, seconds: float = 1.0
) -> list[str]:
    """The names of what was done, in order, when all of `work` (name, for whom, how often) asks for
    its turns at once and each takes so long.
    """
    done: list[str] = []

    async def once(name: str, flow: Flow) -> None:
        current_flow.set(flow)
        async with slots.turn():
            await asyncio.sleep(0)
            clock.now += seconds
            done.append(name)

    await asyncio.gather(*[once(name, flow) for name, flow, times in work for _ in range(times)])
    return done


def slots_of(capacity: int = 1) -> tuple[FairSlots, Clock]:
    clock = Clock()
    return FairSlots(capacity, clock), clock


async def test_a_single_request_waits_for_one_turn_of_each_large_one() -> None:
    slots, clock = slots_of()
    large = [(f"large{n}", Flow("somebody"), 64) for n in range(4)]
    done = await order_of(slots, clock, [*large, ("single", Flow("somebody"), 1)])
    assert done.index("single") <= 5 and len(done) == 257


async def test_a_caller_with_many_requests_has_no_larger_share_than_one_with_one() -> None:
    slots, clock = slots_of()
    many = [("many", Flow("a"), 8) for _ in range(8)]
    done = await order_of(slots, clock, [*many, ("one", Flow("b"), 8)])
    last = max(place for place, name in enumerate(done) if name == "one")
    assert last <= 17


async def test_a_caller_of_a_quarter_of_the_weight_has_a_quarter_of_the_share() -> None:
    slots, clock = slots_of()
    work = [("job", Flow("job", 0.25), 20), ("request", Flow("a"), 20)]
    done = await order_of(slots, clock, work)
    last = max(place for place, name in enumerate(done) if name == "request")
    assert 4 <= done[:last].count("job") <= 8


async def test_who_comes_later_has_no_claim_on_the_time_before() -> None:
    slots, clock = slots_of()
    await order_of(slots, clock, [("early", Flow("a"), 50)])
    done = await order_of(slots, clock, [("early", Flow("a"), 10), ("late", Flow("b"), 10)])
    assert 4 <= done[:10].count("late") <= 6


async def test_large_turns_wait_until_they_fit_and_one_alone_always_does() -> None:
    slots, _ = slots_of(4)
    entered: list[int] = []

    async def hold(size: int) -> None:
        async with slots.turn(size):
            entered.append(size)
            assert slots.in_use <= 4 or entered == [9]
            await asyncio.sleep(0)

    await hold(9)
    await asyncio.gather(*map(hold, (3, 2, 1, 4, 1)))
    assert sorted(entered) == [1, 1, 2, 3, 4, 9] and slots.in_use == 0


async def test_a_cancelled_waiter_takes_no_slot() -> None:
    slots, clock = slots_of()
    async with slots.turn():
        waiting = asyncio.create_task(order_of(slots, clock, [("gone", Flow("a"), 3)]))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    assert slots.in_use == 0
    assert await order_of(slots, clock, [("next", Flow("b"), 1)]) == ["next"]


async def test_a_turn_that_ends_as_another_is_given_up_goes_to_the_next() -> None:
    """The one is cancelled, and its task has not come to know: at a deadline of many at once."""
    slots, _ = slots_of()
    entered: list[str] = []

    async def enter(name: str) -> None:
        async with slots.turn():
            entered.append(name)

    async with slots.turn():
        gone, after = (asyncio.create_task(enter(name)) for name in ("gone", "after"))
        await asyncio.sleep(0)
        gone.cancel()
    await asyncio.gather(gone, after, return_exceptions=True)
    assert entered == ["after"] and slots.in_use == 0
