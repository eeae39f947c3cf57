"""Builds the read model again from the log, while the former one answers."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from meshkit.bus import Bus
from meshkit.errors import DependencyUnavailable, MeshError
from meshkit.log import Log
from meshkit.time_limit import within
from services.coordinator.projector import source_of
from services.coordinator.read_model_database import Copies, NextCopy
from services.coordinator.read_model_writer import ReadModelWriter
from services.coordinator.task_row import Recorded
from sqlstore.carrier import Carrier, Copy
from sqlstore.positions import BEGINNING, Place
from tasklog.partitions import Partition

# How often it is looked how far it is, and the caller told.
_LOOK_SECONDS: Final = 0.25
# So few events are carried during the switch, when the copy in use stands still.
_NEAR: Final = 4096
_SWITCH_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Progress:
    """How far it is."""

    # Stream sequences over all streams.
    passed: int
    total: int
    done: bool


class _Turn:
    """One rebuilding, and those who follow it."""

    def __init__(self) -> None:
        self.progress = Progress(0, 0, done=False)
        self.error: MeshError | None = None
        self.over = asyncio.Event()


class Rebuild:
    """Rebuilds, once at a time."""

    def __init__(
        self, bus: Bus, copies: Copies, log: Log, *, partitions: Sequence[Partition]
    ) -> None:
        self._bus = bus
        self._copies = copies
        self._log = log
        self._partitions = partitions
        self._turn: _Turn | None = None
        self._wanted = asyncio.Event()

    async def follow(self) -> AsyncGenerator[Progress]:
        """Begins to rebuild, or joins who does; ends when it is done.

        Raises:
            Conflict: Another process is at it.
            DependencyUnavailable: The broker or the database went away.
        """
        turn = self._turn = self._turn or _Turn()
        self._wanted.set()
        while not turn.over.is_set():
            yield turn.progress
            try:
                with within(2 * _LOOK_SECONDS):
                    await turn.over.wait()
            except TimeoutError:
                continue
        if turn.error is not None:
            raise turn.error
        yield turn.progress

    async def run(self) -> None:
        """Does what is asked for, until cancelled."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            turn = self._turn
            if turn is None:
                continue
            try:
                await self._rebuild(turn)
            except MeshError as error:
                self._log.error("read_model.rebuild_failed", error=str(error))
                turn.error = error
            finally:
                self._turn = None
                turn.over.set()

    async def _rebuild(self, turn: _Turn) -> None:
        ends = {each.stream: await self._end(each) for each in self._partitions}
        total = sum(ends.values())
        self._log.info("read_model.rebuild_begun", events=total)
        async with self._copies.rebuilding() as copy:
            writer = ReadModelWriter(copy)
            carrying = [
                asyncio.create_task(Carrier(self._bus, writer, self._log, source_of(each)).run())
                for each in self._partitions
            ]
            try:
                while True:
                    await _first_failure(carrying, _LOOK_SECONDS)
                    if await self._is_near(turn, writer, ends):
                        break
                await self._switch(copy, writer, carrying)
            finally:
                for each in carrying:
                    each.cancel()
                await asyncio.gather(*carrying, return_exceptions=True)
        turn.progress = Progress(total, total, done=True)
        self._log.info("read_model.rebuilt", events=total)

    async def _is_near(self, turn: _Turn, writer: Copy[Recorded], ends: Mapping[str, int]) -> bool:
        """Whether it has what the log had at first, and almost all that the copy in use has."""
        places = await writer.places()
        passed = {stream: _position(places, stream) for stream in ends}
        turn.progress = Progress(
            sum(min(passed[stream], end) for stream, end in ends.items()),
            sum(ends.values()),
            done=False,
        )
        in_use = await ReadModelWriter(self._copies).places()
        return all(
            passed[stream] >= end and passed[stream] + _NEAR >= _position(in_use, stream)
            for stream, end in ends.items()
        )

    async def _switch(
        self, copy: NextCopy, writer: Copy[Recorded], carrying: Sequence[asyncio.Task[None]]
    ) -> None:
        try:
            with within(_SWITCH_SECONDS):
                async with copy.switching():
                    # Whoever has seen that an event is listed sees it afterwards, too.
                    wanted = await ReadModelWriter(self._copies).places()
                    while True:
                        if _has_all(await writer.places(), wanted):
                            break
                        await _first_failure(carrying, _LOOK_SECONDS / 10)
        except TimeoutError:
            raise DependencyUnavailable(
                "The new copy did not catch up with the one in use in time.",
                metadata={"dependency": "read_model"},
            ) from None

    async def _end(self, partition: Partition) -> int:
        last = await self._bus.last(partition.stream, partition.all_events)
        return 0 if last is None else last.sequence


async def _first_failure(carrying: Sequence[asyncio.Task[None]], seconds: float) -> None:
    """Raises what a carrier fails with in that time; they do not end otherwise."""
    done, _ = await asyncio.wait(carrying, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for each in done:
        each.result()


def _position(places: Mapping[str, Place], stream: str) -> int:
    return places.get(stream, BEGINNING).position


def _has_all(places: Mapping[str, Place], wanted: Mapping[str, Place]) -> bool:
    return all(_position(places, each) >= place.position for each, place in wanted.items())
