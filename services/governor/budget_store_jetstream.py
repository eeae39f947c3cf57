"""Budgets on JetStream: one subject a budget, followed into memory by every governor."""

import asyncio
import contextlib
from dataclasses import replace
from datetime import UTC, timedelta
from typing import Final
from urllib.parse import quote

from agentmesh.governor.v1 import budget_pb2
from meshkit.bus import Bus, StoredMessage, StreamSpec
from meshkit.clock import Clock
from meshkit.errors import (
    BudgetNotFound,
    Conflict,
    DependencyUnavailable,
    MeshError,
    RequestIdReused,
    TooLarge,
)
from meshkit.time_limit import within
from services.governor.budget import Budget, Place, budget_name, parse_name
from services.governor.budget_message import budget_of, message_of
from services.governor.budgets import Budgets
from services.governor.streams import created_ms

_STREAM: Final = "BUDGETS"
_ALL: Final = "budget.>"
_REQUEST_ID: Final = "Agentmesh-Request-Id"
# A header is one line, without blanks at its ends.
_HEADER_SAFE: Final = "/:;,=+@"
# How much of an etag that was never given out is said again.
_MOST_ETAG_SAID: Final = 40
# Versions of a budget that are kept: as long a request is recognised.
_MOST_VERSIONS: Final = 8
_WINDOW: Final = 256
# Longer than any counter is kept: whoever finds one of a budget that was removed, and is there
# again, has to know that.
_REMOVED_KEPT: Final = timedelta(days=35)
_AGAIN_SECONDS: Final = 1.0
# How long a change that is known to be there may be on its way.
_ARRIVES_SECONDS: Final = 0.5
# A change without an etag meets others: each turn loses to at most one of them.
_SET_TURNS: Final = 20


class JetStreamBudgets:
    """Writes budgets, and keeps those in memory up to date. Safe to share within one event loop."""

    def __init__(self, bus: Bus, budgets: Budgets, clock: Clock, *, most_per_tenant: int) -> None:
        """`budgets` is what is kept up to date."""
        self._bus: Final = bus
        self._budgets: Final = budgets
        self._clock: Final = clock
        self._most: Final = most_per_tenant
        self._created_ms: int = 0
        # Up to where the stream is in memory.
        self._followed = 0
        # Up to where there is nothing to wait for.
        self._position = 0
        # What this process wrote may be ahead of that.
        self._applied: dict[Place, int] = {}
        self._moved: Final = asyncio.Condition()

    @property
    def position(self) -> int:
        """All that is set up to this place is in memory."""
        return self._position

    @property
    def created_ms(self) -> int:
        """When the stream that is in memory was created, in milliseconds since 1970."""
        return self._created_ms

    async def refresh(self) -> None:
        """Reads all that there is anew. Raises DependencyUnavailable."""
        await self._load()

    async def prepare(self) -> None:
        """Creates the stream, or brings it up to date, and reads what is there."""
        await self._bus.ensure_stream(
            StreamSpec(
                name=_STREAM,
                subjects=(_ALL,),
                max_messages_per_subject=_MOST_VERSIONS,
                description="Budgets; the last message of a subject is in force.",
            )
        )
        await self._load()
        await self._purge_removed()

    async def set(self, budget: Budget, *, etag: str, request_id: str) -> tuple[Budget, int]:
        """Puts a budget in force; as it is stored, and its place in the stream.

        Args:
            budget: What `check` has seen.
            etag: Of the budget that it replaces: `0` for none, empty for whatever there is.
            request_id: Makes it repeatable, where it is not empty.

        Raises:
            Conflict: The etag is not that of the budget that is there.
            RequestIdReused: The request id came with another budget.
            TooLarge: The tenant has as many budgets as it may have.
            DependencyUnavailable: Nobody knows whether it is stored.
        """
        place = budget.scope, budget.window
        subject = _subject(place)
        repeatable_by = quote(request_id, safe=_HEADER_SAFE)
        headers = {_REQUEST_ID: repeatable_by} if request_id else {}
        for _ in range(_SET_TURNS):
            versions = [message async for message in self._bus.read(_STREAM, subject)]
            for version in versions:
                if request_id and version.headers.get(_REQUEST_ID) == repeatable_by:
                    return _repeated(version, budget), version.sequence
            last = versions[-1] if versions else None
            before = budget_of(last.payload, last.sequence) if last else None
            _require_etag(place, etag, before)
            if before is not None and _is_same(before, budget):
                return before, int(before.etag)
            if before is None:
                self._require_room(budget)
            stored = replace(budget, updated_at=self._clock.now().astimezone(UTC))
            with contextlib.suppress(Conflict):
                sequence = await self._bus.append(
                    subject,
                    message_of(stored),
                    expected_last=last.sequence if last else 0,
                    headers=headers,
                )
                stored = replace(stored, etag=str(sequence))
                if sequence <= self._followed:
                    # It begins again: this is another stream.
                    await self._load()
                self._apply(place, stored, sequence)
                return stored, sequence
        raise Conflict("The budget is being changed by too many at once. Try again.")

    async def delete(self, place: Place, *, etag: str) -> int:
        """Removes a budget; the place of that in the stream.

        Raises:
            BudgetNotFound: There is none that somebody set.
            Conflict: The etag is not that of the budget that is there.
            DependencyUnavailable: Nobody knows whether it is removed.
        """
        subject = _subject(place)
        for _ in range(_SET_TURNS):
            last = await self._bus.last(_STREAM, subject)
            before = budget_of(last.payload, last.sequence) if last else None
            if last is None or before is None:
                raise BudgetNotFound(f"There is no budget {budget_name(*place)!r} to delete.")
            _require_etag(place, etag, before)
            with contextlib.suppress(Conflict):
                gone = budget_pb2.Budget(name=before.name).SerializeToString()
                sequence = await self._bus.append(subject, gone, expected_last=last.sequence)
                self._apply(place, None, sequence)
                # Its earlier versions are of no use any more.
                await self._bus.purge(_STREAM, subject, before_sequence=sequence)
                return sequence
        raise Conflict("The budget is being changed by too many at once. Try again.")

    async def reach(self, sequence: int) -> None:
        """Returns when all that the stream has up to there is in memory.

        Raises DependencyUnavailable.
        """
        try:
            with within(_ARRIVES_SECONDS):
                async with self._moved:
                    await self._moved.wait_for(lambda: self._position >= sequence)
        except TimeoutError:
            await self._load()
            # Where the stream is another one by now, there is nothing more to wait for.
            await self._move(sequence)

    async def follow(self) -> None:
        """Keeps the budgets up to date until cancelled."""
        while True:
            with contextlib.suppress(MeshError):
                await self._load()
                async with self._bus.follow(
                    _STREAM, _ALL, start_sequence=self._followed + 1, window=_WINDOW
                ) as follower:
                    while True:
                        await follower.wait()
                        for message in await follower.take():
                            self._take(message.payload, message.sequence)
                            self._followed = message.sequence
                            await self._move(message.sequence)
            await self._clock.sleep(_AGAIN_SECONDS)

    async def _load(self) -> None:
        info = await self._bus.stream_info(_STREAM)
        if info is None:
            raise DependencyUnavailable(
                "The stream of budgets is gone.", metadata={"dependency": "nats"}
            )
        found: dict[str, Budget | None] = {}
        applied: dict[Place, int] = {}
        position = 0
        async for message in self._bus.read(_STREAM, _ALL):
            position = max(position, message.sequence)
            found[message.subject] = budget_of(message.payload, message.sequence)
            applied[_place(message.payload)] = message.sequence
        # What was written here meanwhile is not lost.
        ahead = {
            place: (sequence, self._budgets.get(place))
            for place, sequence in self._applied.items()
            if sequence > position
        }
        created: int = created_ms(info["created"])
        if created != self._created_ms:
            # Another stream: no place of the one before means anything.
            self._created_ms, self._position = created, 0
            ahead.clear()
        self._applied = applied
        self._budgets.replace_all((each for each in found.values() if each is not None), applied)
        for place, (sequence, budget) in ahead.items():
            self._apply(place, budget if budget and budget.etag else None, sequence)
        self._followed = position
        await self._move(position)

    async def _purge_removed(self) -> None:
        """What was removed long ago has left no counter."""
        before = self._clock.now() - _REMOVED_KEPT
        # By subject: the last message counts.
        last = {message.subject: message async for message in self._bus.read(_STREAM, _ALL)}
        for message in last.values():
            if message.time < before and budget_of(message.payload, message.sequence) is None:
                await self._bus.purge(
                    _STREAM, message.subject, before_sequence=message.sequence + 1
                )

    def _take(self, payload: bytes, sequence: int) -> None:
        self._apply(_place(payload), budget_of(payload, sequence), sequence)

    def _apply(self, place: Place, budget: Budget | None, sequence: int) -> None:
        if sequence <= self._applied.get(place, 0):
            return
        self._applied[place] = sequence
        if budget is None:
            self._budgets.remove(place, sequence)
        else:
            self._budgets.put(budget, sequence)

    async def _move(self, position: int) -> None:
        async with self._moved:
            self._position = max(self._position, position)
            self._moved.notify_all()

    def _require_room(self, budget: Budget) -> None:
        tenant = budget.scope.tenant
        size = len(self._budgets.stored(tenant))
        if size >= self._most:
            raise TooLarge(
                f"The tenant {tenant} has {size} budgets, and may have {self._most}."
                " Delete one that is needed no longer.",
                metadata={"limit_items": str(self._most), "size_items": str(size + 1)},
            )


def _subject(place: Place) -> str:
    scope, window = place
    kind = f"{scope.kind}-{window}"
    if scope.subject:
        # A dot would begin another token.
        kind = f"{kind}-{scope.subject.replace('.', '%2E')}"
    return f"budget.{scope.tenant or '-'}.{kind}"


def _place(payload: bytes) -> Place:
    return parse_name(budget_pb2.Budget.FromString(payload).name, field="name")


def _require_etag(place: Place, etag: str, before: Budget | None) -> None:
    present = before.etag if before else "0"
    if etag and etag != present:
        name = budget_name(*place)
        text = f"its etag is {present!r}" if before else "it is not set, as with etag '0'"
        raise Conflict(
            f"The budget {name} has changed: {text}, not {etag[:_MOST_ETAG_SAID]!r}."
            " Read it again, and apply your change to that."
        )


def _is_same(before: Budget, budget: Budget) -> bool:
    return replace(before, etag="", updated_at=None) == replace(budget, etag="", updated_at=None)


def _repeated(version: StoredMessage, budget: Budget) -> Budget:
    stored = budget_of(version.payload, version.sequence)
    if stored is None or not _is_same(stored, budget):
        raise RequestIdReused("The request_id was used for a budget with other figures.")
    return stored
