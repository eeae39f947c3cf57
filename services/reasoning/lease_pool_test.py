"""Leases are there before they are needed, renewed before they end, and given back after use."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from meshkit.errors import DependencyUnavailable
from meshtest.eventually import eventually
from services.reasoning.governor import LeaseWish
from services.reasoning.lease_bench import CALLS, COVER_SECONDS, SPENDING, LeaseBench
from services.reasoning.lease_pool import Claim
from services.reasoning.model import Tier


@pytest.fixture
async def bench() -> AsyncIterator[LeaseBench]:
    bench = LeaseBench()
    yield bench
    await bench.pool.close()


async def test_the_first_calls_are_asked_for_and_the_next_are_leased(bench: LeaseBench) -> None:
    """A few calls are worth a lease; none of them waits for it, and one is taken for all."""
    bench.lessor.hold = asyncio.Event()
    for _ in range(CALLS + 3):
        assert bench.claim() is None
    await bench.settle_down()
    assert bench.lessor.wishes == [
        LeaseWish("acme", "00000000000000000000000001", "chat", "helper", 10_000)
    ]
    bench.lessor.hold.set()
    await bench.settle_down()
    claim = bench.claim()
    assert claim is not None
    assert claim.held_micros == 1_000


async def test_calls_now_and_then_are_not_worth_a_lease(bench: LeaseBench) -> None:
    """Three in ten seconds are asked for, each time."""
    for _ in range(10):
        for _ in range(CALLS - 1):
            assert bench.claim() is None
        await bench.clock.advance(5 * COVER_SECONDS)
    assert bench.lessor.wishes == []


@pytest.mark.parametrize(
    "call",
    [
        {"task_limit_micros": 5},
        {"model": "unknown"},
        {"tier": Tier.POWERFUL},
        {"session": "s1"},
        {"key": "before"},
        {"tokens": 10_001},
        {"tenant": "closed"},
        {"tenant": "globex"},
    ],
    ids=lambda call: next(iter(call)),
)
async def test_what_a_lease_does_not_cover_is_asked_for(
    bench: LeaseBench, call: dict[str, object]
) -> None:
    """A cap, a model without a price, a tier, a session, a repeat, a large call, others' work."""
    bench.lessor.tiers = frozenset({Tier.FAST, Tier.BALANCED})
    bench.lessor.asks_for_sessions = True
    bench.closed_tenants.add("closed")
    assert bench.claim(key="before") is None
    await bench.lease()
    assert bench.claim(session="") is not None
    assert bench.claim(**{"session": "", **call}) is None  # pyright: ignore[reportArgumentType]


async def test_a_tenant_that_fails_closed_gets_no_lease(bench: LeaseBench) -> None:
    """The governor has to consent to each of its calls."""
    bench.closed_tenants.add("acme")
    await bench.lease()
    assert bench.lessor.wishes == []


async def test_without_a_size_nothing_is_leased() -> None:
    """That is how leases are turned off."""
    bench = LeaseBench(most_micros=0)
    await bench.lease()
    assert bench.lessor.wishes == []


async def test_free_work_leases_the_governors_word_alone(bench: LeaseBench) -> None:
    """One micro-USD; a paid call among it gets a lease that can pay it."""
    for _ in range(CALLS):
        assert bench.claim(model="free") is None
    await bench.settle_down()
    assert [each.micros for each in bench.lessor.wishes] == [1]
    claim = bench.claim(model="free")
    assert claim is not None
    assert claim.held_micros == 0
    await bench.clock.advance(1.0)
    assert bench.claim() is None
    await bench.settle_down()
    assert bench.claim() is not None
    assert [each.micros for each in bench.lessor.wishes] == [1, 10_000]


async def test_a_lease_is_renewed_before_it_is_used_up(bench: LeaseBench) -> None:
    """Calls go on under the old one meanwhile, and what is left of it is given back."""
    await bench.lease()
    for _ in range(8):
        settlement = await bench.spend(bench.claim(), 1_000)
        bench.pool.settled(settlement)
    await bench.clock.advance(1.0)
    bench.lessor.hold = asyncio.Event()
    assert bench.claim() is not None
    await bench.settle_down()
    assert len(bench.lessor.wishes) == 2
    # Of the old one.
    claim = bench.claim()
    assert claim is not None
    assert claim.lease.terms.lease == bench.lessor.wishes[0].lease
    bench.lessor.hold.set()
    await bench.settle_down()
    claim = bench.claim()
    assert claim is not None
    assert claim.lease.terms.lease == bench.lessor.wishes[1].lease


async def test_a_busy_lease_is_as_large_as_the_time_it_covers(bench: LeaseBench) -> None:
    """Twenty calls a second of 500 micro-USD need about a hundred thousand in ten seconds."""
    for _ in range(20 * 60):
        if (claim := bench.claim()) is not None:
            bench.pool.settled(await bench.spend(claim, 500))
        else:
            bench.pool.note(SPENDING, 500)
        await bench.clock.advance(0.05)
    last = bench.lessor.wishes[-1].micros
    assert last == pytest.approx(20 * 500 * COVER_SECONDS, rel=0.1)
    # The first ones are small; each of the others lasts most of its time.
    assert len(bench.lessor.wishes) < 16


async def test_a_lease_is_renewed_when_it_is_old(bench: LeaseBench) -> None:
    """Half of what it may last; nothing is admitted under it in its last part."""
    bench.lessor.lease_seconds = 60.0
    await bench.lease()
    for _ in range(24):
        await bench.clock.advance(1.0)
        bench.pool.give_back(_claimed(bench.claim()))
    assert len(bench.lessor.wishes) == 1
    bench.lessor.failure = DependencyUnavailable("Away.")
    for _ in range(25):
        await bench.clock.advance(1.0)
        bench.pool.give_back(_claimed(bench.claim()))
    # Ten seconds before the governor ends it.
    await bench.clock.advance(1.0)
    assert bench.claim() is None
    assert len(bench.lessor.wishes) > 2


async def test_a_lease_does_not_outlast_what_a_clock_may_have_told_wrongly(
    bench: LeaseBench,
) -> None:
    """A year is not believed: a minute holds, however far the clocks are apart."""
    bench.lessor.lease_seconds = 365 * 86_400.0
    await bench.lease()
    bench.lessor.failure = DependencyUnavailable("Away.")
    for second in range(70):
        await bench.clock.advance(1.0)
        assert (bench.claim(tokens=1) is not None) == (second + 1 < 60)


async def test_a_lease_that_has_ended_by_this_clock_is_given_back(bench: LeaseBench) -> None:
    """So it is when this clock is far ahead of the governor's; nothing is admitted under it."""
    bench.lessor.lease_seconds = -5.0
    await bench.lease()
    assert bench.claim() is None
    assert bench.lessor.trims == [("acme", bench.lessor.wishes[0].lease, 0)]


async def test_the_next_windows_lease_is_asked_for_soon(bench: LeaseBench) -> None:
    """At midnight the last one of a day may be over before it is here."""
    bench.lessor.lease_seconds = -0.1
    await bench.lease()
    bench.lessor.lease_seconds = 600.0
    assert bench.claim() is None
    await bench.clock.advance(1.0)
    assert bench.claim() is None
    await bench.settle_down()
    assert bench.claim() is not None


async def test_a_lease_whose_prices_are_unknown_here_is_given_back(bench: LeaseBench) -> None:
    """This process cannot tell what calls cost by them; it asks for each."""
    bench.lessor.price_version = "2"
    await bench.lease()
    assert bench.claim() is None
    assert bench.lessor.trims == [("acme", bench.lessor.wishes[0].lease, 0)]
    await bench.clock.advance(30.0)
    await bench.lease()
    assert len(bench.lessor.wishes) == 1


async def test_a_refused_lease_is_asked_for_again_when_the_governor_says(bench: LeaseBench) -> None:
    """Not before; the calls are asked for."""
    bench.lessor.most_micros = 0
    bench.lessor.retry_after_seconds = 7.0
    await bench.lease()
    await bench.clock.advance(6.0)
    await bench.lease()
    assert len(bench.lessor.wishes) == 1
    await bench.clock.advance(1.0)
    await bench.lease()
    assert len(bench.lessor.wishes) == 2


async def test_a_lease_whose_answer_is_lost_is_asked_for_by_the_same_name(
    bench: LeaseBench,
) -> None:
    """So that what was granted is found, and not set aside twice."""
    bench.lessor.failure = DependencyUnavailable("Away.")
    await bench.lease()
    await bench.lease()
    assert len(bench.lessor.wishes) == 1
    bench.lessor.failure = None
    await bench.clock.advance(1.0)
    await bench.lease()
    first, second = bench.lessor.wishes
    assert first.lease == second.lease
    assert bench.claim() is not None


async def test_a_renewed_lease_keeps_what_its_calls_need_until_they_are_settled(
    bench: LeaseBench,
) -> None:
    """A call in flight, and a settlement on its way; the rest goes back at once, these later."""
    await bench.lease()
    first = bench.lessor.wishes[0].lease
    settlement = await bench.spend(bench.claim(tokens=3_000), 2_000)
    in_flight = bench.claim(tokens=4_000)
    await bench.clock.advance(1.0)
    assert bench.claim(tokens=9_000) is None
    await bench.settle_down()
    assert bench.lessor.trims == [("acme", first, 6_000)]
    await bench.clock.advance(2.0)
    assert len(bench.lessor.trims) == 1
    bench.pool.settled(settlement)
    bench.pool.settled(await bench.spend(in_flight, 500))
    await bench.clock.advance(1.0)
    assert bench.lessor.trims == [("acme", first, 6_000), ("acme", first, 0)]


async def test_what_a_call_does_not_need_while_its_lease_is_given_back_follows(
    bench: LeaseBench,
) -> None:
    """It was kept for the call, which ended before the governor had answered."""
    await bench.lease()
    first = bench.lessor.wishes[0].lease
    in_flight = _claimed(bench.claim(tokens=4_000))
    await bench.clock.advance(1.0)
    bench.lessor.hold_trims = asyncio.Event()
    assert bench.claim(tokens=9_000) is None
    await bench.settle_down()
    assert bench.lessor.trims == [("acme", first, 4_000)]
    bench.pool.give_back(in_flight)
    bench.lessor.hold_trims.set()
    await bench.clock.advance(1.0)
    assert bench.lessor.trims == [("acme", first, 4_000), ("acme", first, 0)]
    await bench.clock.advance(5.0)
    assert len(bench.lessor.trims) == 2


async def test_an_idle_lease_is_given_back(bench: LeaseBench) -> None:
    """After the time that it covers; then nothing is looked at any more."""
    await bench.lease()
    bench.pool.give_back(_claimed(bench.claim()))
    await bench.clock.advance(COVER_SECONDS - 1.0)
    assert bench.lessor.trims == []
    await bench.clock.advance(2.0)
    assert bench.lessor.trims == [("acme", bench.lessor.wishes[0].lease, 0)]
    assert bench.clock.sleeping == 0
    assert bench.claim() is None


async def test_a_lease_that_ends_without_another_is_given_back(bench: LeaseBench) -> None:
    """Budgets are near their thresholds, and what is free of it is of use to others."""
    await bench.lease()
    bench.lessor.most_micros = 0
    for _ in range(62):
        await bench.clock.advance(1.0)
        if (claim := bench.claim(tokens=1)) is not None:
            bench.pool.give_back(claim)
    assert bench.lessor.trims == [("acme", bench.lessor.wishes[0].lease, 0)]


async def test_the_longest_unused_lease_makes_room(bench: LeaseBench) -> None:
    """No more than so many are held; the third tenant's takes the place of the first's."""
    for tenant in ("acme", "globex", "initech"):
        for _ in range(CALLS):
            bench.claim(tenant=tenant)
        await bench.settle_down()
    assert bench.lessor.trims == [("acme", bench.lessor.wishes[0].lease, 0)]
    assert bench.claim(tenant="globex") is not None
    assert bench.claim(tenant="initech") is not None
    assert bench.claim(tenant="acme") is None


async def test_a_tenant_with_many_kinds_of_work_takes_no_lease_of_others() -> None:
    """Of its own, the longest unused makes room."""
    bench = LeaseBench(most_tenant_leases=1)
    for tenant, task_type in (("globex", "chat"), ("acme", "a"), ("acme", "b"), ("acme", "c")):
        for _ in range(CALLS):
            bench.claim(tenant=tenant, task_type=task_type)
        await bench.settle_down()
    first, second = (each.lease for each in bench.lessor.wishes[1:3])
    assert bench.lessor.trims == [("acme", first, 0), ("acme", second, 0)]
    assert bench.claim(tenant="globex") is not None
    assert bench.claim(tenant="acme", task_type="c") is not None
    await bench.pool.close()


async def test_a_lease_that_nobody_has_room_for_is_given_back(bench: LeaseBench) -> None:
    """Others took its place while it was on its way."""
    bench.lessor.hold = asyncio.Event()
    for tenant in ("acme", "globex", "initech"):
        for _ in range(CALLS):
            bench.claim(tenant=tenant)
    bench.lessor.hold.set()
    await bench.settle_down()
    assert bench.lessor.trims == [("acme", bench.lessor.wishes[0].lease, 0)]


async def test_the_end_of_the_process_gives_all_back(bench: LeaseBench) -> None:
    """But for what is not settled; from then on nothing is admitted here."""
    await bench.lease()
    lease = bench.lessor.wishes[0].lease
    await bench.spend(bench.claim(), 700)
    await bench.pool.close()
    assert bench.lessor.trims == [("acme", lease, 700)]
    assert bench.claim() is None
    await bench.lease()
    assert len(bench.lessor.wishes) == 1


async def test_the_end_of_the_process_gives_back_what_may_have_been_granted(
    bench: LeaseBench,
) -> None:
    """A lease whose answer never came."""
    bench.lessor.hold = asyncio.Event()
    await bench.lease()
    await eventually(lambda: len(bench.lessor.wishes) == 1)
    await bench.pool.close()
    assert bench.lessor.trims == [("acme", bench.lessor.wishes[0].lease, 0)]


def _claimed(claim: Claim | None) -> Claim:
    assert claim is not None
    return claim
