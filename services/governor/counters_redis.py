"""Counters in Redis, changed by one script (counters.lua). A batch is one round trip."""

import asyncio
import hashlib
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Protocol

from redis.exceptions import NoScriptError, RedisError

from meshkit.clock import Clock
from meshkit.errors import DependencyUnavailable
from meshkit.redis_line import RedisLine
from meshkit.redis_store import unavailable
from services.governor.account import (
    Balance,
    Charge,
    Charged,
    ChargedOtherwise,
    Counter,
    Decision,
    Held,
    Loan,
    Outdated,
    Refused,
    SettledAs,
    SettledBefore,
    Standing,
    Unopened,
    Unsure,
    Usage,
    Wish,
)
from services.governor.counters_arguments import Numbers, milliseconds, settle_item, terms

_SCRIPT: Final = Path(__file__).with_name("counters.lua")
# What every key begins with. A call is one step over all its budgets, the global one
# included, and so they are all in one place; leases keep the calls few.
PREFIX: Final = "governor:{spend}:"
# How many expired reservations one call may give back: bounds the time for
# which it keeps Redis from others to about a millisecond.
_SWEEP_LIMIT: Final = 200
# Redis does one thing at a time. A crowd of callers waits here, in order, where
# it would only wait there.
_MAX_ROUND_TRIPS: Final = 8
# How often, and how far apart, Redis is looked at until it has counted all that the journal has.
_LOOKS: Final = 11
_LOOK_SECONDS: Final = 0.1
_MILLISECOND: Final = timedelta(milliseconds=1)
_GO_AHEAD: Final = Decision(0)

_Arg = str | int


class Streams(Protocol):
    """What places are counted in."""

    @property
    def age(self) -> int:
        """Grows whenever one of the streams is created anew."""
        ...

    async def refresh(self) -> None:
        """Finds it out again. Raises DependencyUnavailable."""
        ...


class Journal(Protocol):
    """What is counted."""

    async def last_place(self) -> int:
        """The place of the last message. Raises DependencyUnavailable."""
        ...


class RedisCounters:
    """The counters of all budgets."""

    def __init__(
        self,
        line: RedisLine,
        clock: Clock,
        *,
        remember_settled_seconds: int,
        budgets_known: Callable[[], int],
        streams: Streams,
        expires_by: Clock | None = None,
    ) -> None:
        """`remember_settled_seconds`: for how long a repeated settlement is recognised.

        `expires_by`: by what time reservations expire; None for Redis' own, so that no governor
        whose clock is ahead gives back what others have reserved.
        `budgets_known`: the place up to which this process knows what budgets were set.
        """
        self._budgets_known: Final = budgets_known
        self._expires_by: Final = expires_by
        self._streams: Final = streams
        # What Redis has said last: in which era it is, and up to where it has counted the
        # journal that belongs to these streams.
        self._era = 0
        self._seen = 0
        self._seen_of = 0
        self._line: Final = line
        self._clock: Final = clock
        self._remember_ms: Final = remember_settled_seconds * 1000
        self._turns: Final = asyncio.Semaphore(_MAX_ROUND_TRIPS)
        self._script: Final = _SCRIPT.read_text("utf-8")
        # Redis names a script so; not for secrecy.
        self._sha: Final = hashlib.sha1(self._script.encode(), usedforsecurity=False).hexdigest()

    async def agree(self, journal: Journal) -> None:
        """Has another era begin where Redis and the journal do not belong together.

        Redis may have come back older than it was, and the broker may have lost its last messages.
        To be called at the start: later on this process has seen what was counted. Where
        Redis is away, it may come back as anything. Raises DependencyUnavailable.
        """
        place = await journal.last_place()
        # What is seen is seen of the streams that there are now.
        self._journal()
        counted = 0
        try:
            for look in range(_LOOKS):
                # Others may be about to count it.
                await asyncio.sleep(_LOOK_SECONDS if look else 0)
                counted = await self._counted()
                if counted >= place or not counted:
                    break
        except DependencyUnavailable:
            counted = 0
        if counted > await journal.last_place():
            try:
                await self._line.ask([("DEL", f"{PREFIX}journal")])
            except RedisError as error:
                raise unavailable(error) from error
            self._seen = place
        elif counted < place:
            self._seen = place

    async def _counted(self) -> int:
        call = ["sweep", self._expiry_time(), _SWEEP_LIMIT, 0, *self._journal(), 0]
        _, _, _, counted = await self._round_trip(call)
        return counted

    async def reserve(
        self, wishes: Sequence[Wish], *, keep: timedelta
    ) -> Sequence[Held | Refused | Unopened]:
        """Reserves each wish in its counters, for so long; answers in order."""
        return await self._decide("reserve", wishes, keep)

    async def weigh(self, wish: Wish) -> Decision | Unopened:
        """What `reserve` would decide on a key that is new; changes nothing."""
        (answer,) = await self._decide("weigh", [wish], timedelta())
        return answer if isinstance(answer, Unopened) else answer.decision

    async def _decide(
        self, operation: str, wishes: Sequence[Wish], keep: timedelta
    ) -> Sequence[Held | Refused | Unopened]:
        numbers = Numbers()
        items = [
            f"{wish.likely_micros} {wish.most_micros} {wish.interactive:d} {wish.can_degrade:d}"
            f" {-1 if wish.task_spent_micros is None else wish.task_spent_micros}"
            f" {numbers.of(wish.counters)} {wish.tenant}/{wish.key}"
            for wish in wishes
        ]
        head = [keep // _MILLISECOND, self._remember_ms]
        answers, absent = await self._run(operation, numbers.counters, head, items)
        return [
            _unopened(wish.counters, absent) if answer[0] == b"unopened" else _decided(answer, wish)
            for answer, wish in zip(answers, wishes, strict=True)
        ]

    async def lend(self, loan: Loan, *, keep: timedelta) -> Held | Unopened:
        """Reserves a lease, or nothing where there is no room."""
        numbers = Numbers()
        item = f"{loan.amount_micros} {numbers.of(loan.counters)} lease:{loan.tenant}/{loan.key}"
        head = [keep // _MILLISECOND]
        (answer,), absent = await self._run("lend", numbers.counters, head, [item])
        if answer[0] == b"unopened":
            return _unopened(loan.counters, absent)
        return _held(answer, f"lease:{loan.tenant}")

    async def settle(
        self, charges: Sequence[Charge]
    ) -> tuple[Sequence[Charged | ChargedOtherwise | Unsure], Sequence[Counter]]:
        """Replaces reservations by what was used; answers in order, and what is not there."""
        numbers, leases = Numbers(), dict[str, int]()
        items = [settle_item(charge, numbers, leases) for charge in charges]
        head: list[_Arg] = [self._remember_ms, len(leases), *leases]
        answers, absent = await self._run("settle", numbers.counters, head, items)
        missing = [each for each in numbers.counters if each.id in absent]
        return [_settle_answer(answer) for answer in answers], missing

    async def release(self, tenant: str, key: str, keep_micros: int = 0) -> int | SettledBefore:
        """Gives a reservation back but for `keep_micros`; what it gave, 0 where there is none."""
        (answer,), _ = await self._run("release", (), (), [f"{keep_micros} {tenant}/{key}"])
        return SettledBefore() if answer[0] == b"settled" else answer[1]

    @property
    def era(self) -> int:
        """Changes when no counter is believed any more. 0 before Redis was asked."""
        return self._era

    async def open(self, counter: Counter, balance: Balance, era: int) -> bool:
        """Begins a counter that is not there with what the ledger has; whether that is still so."""
        usage = " ".join(map(str, balance.usage))
        begins = max(milliseconds(counter.window.start), 0)
        item = f"1 {balance.sequence} {begins} {balance.spent_micros} {usage}"
        (answer,), _ = await self._run("open", [counter], [era], [item])
        return answer[0] == b"open"

    async def read(self, counters: Sequence[Counter]) -> Sequence[Standing | None]:
        """Where these stand; None for one that is not there."""
        items = [str(number) for number in range(1, len(counters) + 1)]
        answers, _ = await self._run("read", counters, (), items)
        return [
            Standing(
                answer[1], answer[2], Usage(*map(int, answer[3].split())), int(answer[4]), answer[5]
            )
            if answer[0] == b"read"
            else None
            for answer in answers
        ]

    async def settled_as(self, tenant: str, key: str) -> SettledAs | None:
        """By what a key is settled; None where that is not remembered."""
        try:
            (stored,) = await self._line.ask([("GET", f"{PREFIX}call:{tenant}/{key}")])
        except RedisError as error:
            raise unavailable(error) from error
        # As the script writes it: era, place, cost, newest key, six figures, model.
        said = (stored or b"").decode().split(" ", 11)
        if said[0] != "settled":
            return None
        return SettledAs(int(said[2]), said[11], int(said[3]), Usage(*map(int, said[5:11])))

    async def forget(self, counters: Sequence[Counter], place: int) -> Sequence[Counter]:
        """Has those opened anew that were opened before that place of the journal; which."""
        items = [f"{number} {place}" for number in range(1, len(counters) + 1)]
        _, absent = await self._run("forget", counters, (), items)
        return [each for each in counters if each.id in absent]

    async def note_budgets(self, sequence: int) -> None:
        """Lets nobody decide who does not know the budgets up to that place."""
        await self._round_trip(["note", 0, 0, sequence, *self._journal(), 0])

    async def sweep(self) -> None:
        """Gives back what has expired, as every call does with some of it."""
        left = 1
        while left:
            call = ["sweep", self._expiry_time(), _SWEEP_LIMIT, 0, *self._journal(), 0]
            _, (left,), _, _ = await self._round_trip(call)

    async def _run(
        self,
        operation: str,
        counters: Iterable[Counter],
        head: Sequence[_Arg],
        items: Sequence[str],
    ) -> tuple[list[Any], set[str]]:
        """The script's answer to each item, in order, and the counters that are not there.

        In one round trip; again for items that wait for a longer sweep. Every
        pass sweeps, so that the waiting ends.
        """
        answers: list[Any] = [None] * len(items)
        absent: set[str] = set()
        now = self._clock.now()
        told = [terms(each, now) for each in counters]
        left: Sequence[int] = range(len(items))
        while left:
            call: list[_Arg] = [operation, self._expiry_time(), _SWEEP_LIMIT]
            call += [
                self._budgets_known(),
                *self._journal(),
                len(told),
                *told,
                *head,
                *(items[index] for index in left),
            ]
            async with self._turns:
                answer = await self._round_trip(call)
            if isinstance(answer, int):
                raise Outdated(answer)
            missing, outcomes, _, _ = answer
            absent.update(each.decode() for each in missing)
            again: list[int] = []
            for index, answer in zip(left, outcomes, strict=True):
                answers[index] = answer
                if answer[0] == b"backlog":
                    again.append(index)
            left = again
        return answers, absent

    def _expiry_time(self) -> int:
        return 0 if self._expires_by is None else milliseconds(self._expires_by.now())

    def _journal(self) -> tuple[int, int]:
        age = self._streams.age
        if age != self._seen_of:
            self._seen_of, self._seen = age, 0
        return age, self._seen

    async def _round_trip(self, arguments: Sequence[_Arg]) -> Any:
        command = ("EVALSHA", self._sha, 1, PREFIX, *arguments)
        try:
            try:
                (answer,) = await self._line.ask([command])
            except NoScriptError:
                # Redis was restarted or is another one.
                _, answer = await self._line.ask([("SCRIPT", "LOAD", self._script), command])
        except RedisError as error:
            raise unavailable(error) from error
        if isinstance(answer, bytes):
            # Another governor has met streams that were created anew.
            await self._streams.refresh()
            raise DependencyUnavailable(
                "The journal, or the budgets, began anew.",
                metadata={"dependency": "nats"},
                retry_after_seconds=1.0,
            )
        if not isinstance(answer, int):
            _, _, self._era, counted = answer
            if arguments[4] == self._seen_of:
                self._seen = max(self._seen, counted)
        return answer


def _unopened(counters: Sequence[Counter], absent: set[str]) -> Unopened:
    return Unopened([each for each in counters if each.id in absent])


def _decided(answer: Sequence[Any], wish: Wish) -> Held | Refused:
    if answer[0] == b"held":
        return _held(answer, wish.tenant)
    return Refused(Decision(answer[1], answer[2].decode(), answer[3], answer[4]))


def _held(answer: Sequence[Any], tenant: str) -> Held:
    _, call, micros, expires, level, by, spent, reserved = answer
    return Held(
        key=call.decode()[len(tenant) + 1 :],
        amount_micros=micros,
        expires_at=_time(expires),
        decision=Decision(level, by.decode(), spent, reserved) if level else _GO_AHEAD,
    )


def _settle_answer(answer: Sequence[Any]) -> Charged | ChargedOtherwise | Unsure:
    match answer[0]:
        case b"conflict":
            return ChargedOtherwise(answer[1])
        case b"unsure":
            return Unsure()
        case said:
            return Charged(answer[1], repeated=said == b"repeated")


# What is reserved together expires together.
@lru_cache(maxsize=64)
def _time(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
