"""Single calls are done in as few goes as they came at once, and fail by themselves."""

import asyncio
from collections.abc import Sequence

import pytest

from meshkit.errors import DependencyUnavailable, MeshError, NoPrice
from meshtest.eventually import eventually
from services.governor.together import Together


class _Doer:
    """Doubles numbers, when it may."""

    def __init__(self) -> None:
        self.goes: list[list[int]] = []
        self.go_on = asyncio.Event()
        self.failure: MeshError | None = None

    async def act(self, calls: Sequence[int]) -> Sequence[int | MeshError]:
        self.goes.append([*calls])
        await self.go_on.wait()
        if self.failure is not None:
            raise self.failure
        return [NoPrice("None.") if call < 0 else 2 * call for call in calls]


async def test_what_comes_while_two_are_under_way_goes_together() -> None:
    """The first two go alone; each caller gets its own outcome, also where that is an error."""
    doer = _Doer()
    together = Together(doer.act)
    asked = [asyncio.create_task(together([number])) for number in (1, 2, 3, -4, 5)]
    await eventually(lambda: len(doer.goes) == 3)
    assert doer.goes == [[1], [2], [3, -4, 5]]
    doer.go_on.set()
    first, second, third, (fourth,), fifth = await asyncio.gather(*asked)
    assert [*first, *second, *third, *fifth] == [2, 4, 6, 10]
    assert isinstance(fourth, NoPrice)


async def test_what_all_fail_with_is_told_to_each() -> None:
    """Those that went together, too; the next ones go on."""
    doer = _Doer()
    together = Together(doer.act)
    doer.failure = DependencyUnavailable("Redis is down.")
    asked = [asyncio.create_task(together([number])) for number in range(5)]
    await eventually(lambda: len(doer.goes) == 3)
    doer.go_on.set()
    assert await asyncio.gather(*asked, return_exceptions=True) == [doer.failure] * 5
    doer.failure = None
    assert await together([1]) == [2]


async def test_a_caller_that_leaves_takes_no_other_with_it() -> None:
    """Whether it was under way or waited for company."""
    doer = _Doer()
    together = Together(doer.act)
    asked = [asyncio.create_task(together([number])) for number in range(4)]
    await asyncio.sleep(0)
    asked[0].cancel()
    asked[2].cancel()
    doer.go_on.set()
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert answers[1::2] == [[2], [6]]
    with pytest.raises(asyncio.CancelledError):
        await asked[2]
