"""The client of a benchmark: a process of its own, so that its cost is known apart.

It reads a Load as JSON, submits, and writes lines of JSON: the number of each mark as
it passes, now and then how many tasks have ended, and in the end the Outcome, or why there is
none. It dies with the process that started it.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import uvloop

from bench.tasks.flood import FloodFailed, divide, flooding, joined
from bench.tasks.load import LOAD, OUTCOME, Load, Outcome, Stream
from bench.tasks.record import Record
from bench.tasks.submitters import Submitter, TaskEndedOtherwise, submitter
from meshkit.constants import MAX_MESSAGE_BYTES
from meshkit.errors import MeshError, RateLimited
from meshwire.channel import Reach, WireChannel

_TELL_SECONDS: Final = 1.0
# Tasks of an open loop that are under way at the same time. More wait here, and their
# latency counts from when they should have begun all the same.
_MOST_IN_FLIGHT: Final = 10_000
_REACH: Final = Reach(most_message_bytes=MAX_MESSAGE_BYTES)


class _NoConnection(Exception):
    """The gateway does not answer."""


class _Driver:
    """Keeps the streams of a load going."""

    def __init__(self, load: Load, ways: Sequence[Submitter], record: Record, begun: float) -> None:
        """`ways`: one for each stream; `begun`: when it did, by the monotonic clock."""
        self._load: Final = load
        self._ways: Final = ways
        self._record: Final = record
        self._begun: Final = begun

    def _now(self) -> float:
        return time.monotonic() - self._begun

    async def run(self, tell: Callable[[dict[str, object]], None]) -> None:
        """Returns when every task has ended."""
        telling = asyncio.create_task(self._tell(tell))
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._mark(tell))
                for stream, way in zip(self._load.streams, self._ways, strict=True):
                    for _ in range(stream.in_flight):
                        group.create_task(self._loop(way, stream))
                    if stream.arrivals:
                        group.create_task(self._arrive(way, stream))
        finally:
            telling.cancel()

    async def _mark(self, tell: Callable[[dict[str, object]], None]) -> None:
        for number, mark in enumerate(self._load.marks):
            await asyncio.sleep(mark - self._now())
            tell({"mark": number})

    async def _tell(self, tell: Callable[[dict[str, object]], None]) -> None:
        while True:
            await asyncio.sleep(_TELL_SECONDS)
            tell(
                {
                    "seconds": round(self._now(), 1),
                    "ended": self._record.ended,
                    "failed": self._record.failed,
                }
            )

    async def _loop(self, way: Submitter, stream: Stream) -> None:
        """One caller of a closed loop: the next task when the one before has ended."""
        end = self._load.marks[-1]
        while (now := self._now()) < end:
            await self._one(way, stream, now)

    async def _arrive(self, way: Submitter, stream: Stream) -> None:
        """Submits at the set times, whether earlier tasks have ended or not."""
        room = asyncio.Semaphore(_MOST_IN_FLIGHT)
        async with asyncio.TaskGroup() as group:
            for arrival in stream.arrivals:
                if (early := arrival - self._now()) > 0:
                    await asyncio.sleep(early)
                await room.acquire()
                task = group.create_task(self._one(way, stream, arrival))
                task.add_done_callback(lambda _: room.release())

    async def _one(self, way: Submitter, stream: Stream, began: float) -> None:
        self._record.submitted()
        try:
            await way.submit(stream.tenant, self._load.agent)
        except MeshError as error:
            if stream.floods and isinstance(error, RateLimited):
                self._record.refused()
                return
            self._record.failed_with(f"{error.code.name} {error.reason}")
            # Who is refused does not come back at once.
            await asyncio.sleep(error.retry_after_seconds or 0.1)
        except TaskEndedOtherwise as error:
            self._record.failed_with(str(error))
        else:
            self._record.succeeded(stream.tenant, began, self._now())


def _say(message: dict[str, object]) -> None:
    print(json.dumps(message, separators=(",", ":")), flush=True)


async def _run(load: Load, begun: float | None) -> Outcome:
    measured, flood = divide(load)
    async with _ready(measured) as ways:
        begun = time.monotonic() if begun is None else begun
        if flood is None:
            return await _driven(measured, ways, begun)
        with flooding(flood, "bench.tasks.client", begun) as flooded:
            outcome = await _driven(measured, ways, begun)
            return joined(outcome, await asyncio.wrap_future(flooded))


async def _driven(load: Load, ways: Sequence[Submitter], begun: float) -> Outcome:
    record = Record(load.marks)
    await _Driver(load, ways, record, begun).run(_say)
    return record.outcome()


@asynccontextmanager
async def _ready(load: Load) -> AsyncGenerator[Sequence[Submitter]]:
    """A way for each stream, connected."""
    async with AsyncExitStack() as stack:
        # A connection for each: one tenant's calls do not wait behind another's here.
        channels = [
            await stack.enter_async_context(WireChannel(load.address, _REACH)) for _ in load.streams
        ]
        try:
            async with asyncio.timeout(load.connect_seconds):
                await asyncio.gather(*(channel.channel_ready() for channel in channels))
        except TimeoutError:
            raise _NoConnection(
                f"The client did not reach the gateway at {load.address} within"
                f" {load.connect_seconds:g} s."
            ) from None
        yield [
            submitter(channel, load.client, task_seconds=load.task_seconds, lane=load.lane)
            for channel in channels
        ]


def main() -> None:
    """Reads the load, and drives it."""
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "--begun", type=float, help="when the load began, where it is a part of one"
    )
    begun = parser.parse_args().begun
    load = LOAD.validate_json(sys.stdin.read())
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            outcome = runner.run(_run(load, begun))
        except (_NoConnection, FloodFailed) as error:
            _say({"failure": str(error)})
            sys.exit(1)
    _say({"outcome": OUTCOME.dump_python(outcome, mode="json")})


if __name__ == "__main__":
    main()
