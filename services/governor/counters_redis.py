"""Counters in Redis, changed by one script (counters.lua). A batch is one round trip."""

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from redis.exceptions import NoScriptError, RedisError

from meshkit.clock import Clock
from meshkit.redis_line import RedisLine
from meshkit.redis_store import unavailable
from services.governor.account import (
    Charge,
    Charged,
    ChargedOtherwise,
    Held,
    Refused,
    Scope,
    SettledBefore,
    Standing,
    Usage,
    Windows,
    Wish,
)

_SCRIPT: Final = Path(__file__).with_name("counters.lua")
# How many expired reservations one call may give back: bounds the time for
# which it keeps Redis from others to about a millisecond.
_SWEEP_LIMIT: Final = 200

# Redis does one thing at a time. A crowd of callers waits here, in order, where
# it would only wait there.
_MAX_ROUND_TRIPS: Final = 8

_Arg = str | int


class RedisCounters:
    """The counters of all tenants."""

    def __init__(self, line: RedisLine, clock: Clock, *, remember_settled_seconds: int) -> None:
        """`remember_settled_seconds`: for how long a repeated settlement is recognised."""
        self._line: Final = line
        self._clock: Final = clock
        self._remember_ms: Final = remember_settled_seconds * 1000
        self._turns: Final = asyncio.Semaphore(_MAX_ROUND_TRIPS)
        self._script: Final = _SCRIPT.read_text("utf-8")
        # Redis names a script so; not for secrecy.
        self._sha: Final = hashlib.sha1(self._script.encode(), usedforsecurity=False).hexdigest()

    async def reserve(
        self, wishes: Sequence[Wish], *, windows: Windows, expires_at: datetime
    ) -> Sequence[Held | Refused]:
        """Reserves each wish in its task and its tenant's windows; answers in order."""
        now, expires = _milliseconds(self._clock.now()), _milliseconds(expires_at)
        heads: dict[str, list[_Arg]] = {}
        for tenant, scopes in windows.items():
            head = heads[tenant] = ["reserve", now, _SWEEP_LIMIT, expires, len(scopes)]
            for each in scopes:
                head += each.counter, each.limit_micros, _milliseconds(each.keep_until) - now
        answers = await self._run(
            heads,
            [each.tenant for each in wishes],
            [f"{each.amount_micros} {_task_part(each.task, now)} {each.key}" for each in wishes],
        )
        return [
            _reserve_answer(answer, wish, windows[wish.tenant])
            for answer, wish in zip(answers, wishes, strict=True)
        ]

    async def settle(
        self, charges: Sequence[Charge], *, windows: Windows
    ) -> Sequence[Charged | ChargedOtherwise]:
        """Replaces reservations by what was used; answers in order."""
        now = _milliseconds(self._clock.now())
        heads: dict[str, list[_Arg]] = {}
        for tenant, scopes in windows.items():
            head = heads[tenant] = ["settle", now, _SWEEP_LIMIT, self._remember_ms, len(scopes)]
            for each in scopes:
                head += each.counter, _milliseconds(each.keep_until) - now
        answers = await self._run(
            heads, [each.tenant for each in charges], [_settle_item(each) for each in charges]
        )
        return [_settle_answer(answer) for answer in answers]

    async def release(self, tenant: str, key: str) -> int | SettledBefore:
        """Gives a reservation back and answers its micro-USD: 0 where there is none."""
        now = _milliseconds(self._clock.now())
        (answer,) = await self._run({tenant: ["release", now, _SWEEP_LIMIT]}, [tenant], [key])
        return SettledBefore() if answer[0] == b"settled" else answer[1]

    async def read(self, tenant: str, counters: Sequence[str]) -> Sequence[Standing]:
        """Where these counters stand; zeros for one that was never used."""
        now = _milliseconds(self._clock.now())
        head: list[_Arg] = ["read", now, _SWEEP_LIMIT]
        answers = await self._run({tenant: head}, [tenant] * len(counters), counters)
        return [_read_answer(answer[1]) for answer in answers]

    async def _run(
        self, heads: Mapping[str, Sequence[_Arg]], tenants: Sequence[str], items: Sequence[str]
    ) -> list[Any]:
        """The script's answer to each item, in order.

        One call a tenant, all in one round trip; again for items that wait for
        a longer sweep. Every pass sweeps, so that the waiting ends.
        """
        answers: list[Any] = [None] * len(items)
        left: Sequence[int] = range(len(items))
        while left:
            groups: dict[str, list[int]] = {}
            for index in left:
                groups.setdefault(tenants[index], []).append(index)
            calls = [
                (tenant, [*heads[tenant], *(items[index] for index in group)])
                for tenant, group in groups.items()
            ]
            again: list[int] = []
            async with self._turns:
                outcomes = await self._round_trip(calls)
            for group, outcome in zip(groups.values(), outcomes, strict=True):
                for index, answer in zip(group, outcome, strict=True):
                    answers[index] = answer
                    if answer[0] == b"backlog":
                        again.append(index)
            left = again
        return answers

    async def _round_trip(self, calls: Sequence[tuple[str, Sequence[_Arg]]]) -> Sequence[Any]:
        try:
            try:
                return await self._pipeline(calls)
            except NoScriptError:
                # Redis was restarted or is another one. What the other calls of
                # the pipeline may have done they find done.
                await self._line.ask([("SCRIPT", "LOAD", self._script)])
                return await self._pipeline(calls)
        except RedisError as error:
            raise unavailable(error) from error

    async def _pipeline(self, calls: Sequence[tuple[str, Sequence[_Arg]]]) -> Sequence[Any]:
        return await self._line.ask(
            [
                ("EVALSHA", self._sha, 1, f"governor:{{{tenant}}}:", *arguments)
                for tenant, arguments in calls
            ]
        )


def _task_part(task: Scope | None, now: int) -> str:
    if task is None:
        return "- 0 0 0"
    keep = _milliseconds(task.keep_until) - now
    return f"{task.counter} {task.limit_micros} {task.spent_elsewhere_micros} {keep}"


def _reserve_answer(answer: Sequence[Any], wish: Wish, windows: Sequence[Scope]) -> Held | Refused:
    if answer[0] == b"held":
        return Held(answer[1], datetime.fromtimestamp(answer[2] / 1000, UTC))
    counter = answer[1].decode()
    scopes = [wish.task, *windows] if wish.task else windows
    scope = next(each for each in scopes if each.counter == counter)
    return Refused(scope, answer[2], answer[3])


def _settle_item(charge: Charge) -> str:
    usage = " ".join(map(str, charge.usage))
    task = charge.task_counter or "-"
    return f"{charge.digest} {charge.cost_micros} {usage} {task} {charge.key}"


def _settle_answer(answer: Sequence[Any]) -> Charged | ChargedOtherwise:
    if answer[0] == b"conflict":
        return ChargedOtherwise(answer[1])
    return Charged(answer[1], repeated=answer[0] == b"repeated")


def _read_answer(figures: Sequence[bytes | None]) -> Standing:
    spent, reserved, *usage = (int(figure or 0) for figure in figures)
    return Standing(spent, reserved, Usage(*usage))


def _milliseconds(time: datetime) -> int:
    return round(time.timestamp() * 1000)
