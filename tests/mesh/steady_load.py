"""Calls at a steady pace, whether answers come or not, and what became of each."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc

from agentmesh.coordinator.v1 import coordinator_service_pb2

_CALL_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one call."""

    # When it was sent, by the event loop's clock.
    at_seconds: float
    took_seconds: float
    # Which instance answered; empty where the call failed.
    instance: str
    # Of what failed: the status, and what was said.
    failure: str = ""


@dataclass
class Load:
    """All calls that have ended so far."""

    outcomes: list[Outcome] = field(default_factory=list[Outcome])

    @property
    def failures(self) -> list[Outcome]:
        """What was not answered."""
        return [each for each in self.outcomes if each.failure]

    def shares(self, last: int) -> dict[str, float]:
        """Who answered the last so many calls that were answered, in parts of one."""
        answered = [each.instance for each in self.outcomes if each.instance][-last:]
        return {name: count / len(answered) for name, count in Counter(answered).items()}

    def last_are_answered(self, count: int) -> bool:
        """Whether so many calls that ended one after the other were answered, up to now."""
        last = self.outcomes[-count:]
        return len(last) == count and not any(each.failure for each in last)


Call = Callable[[Any, int], Any]


def read(stub: Any, number: int) -> Any:
    """A call that is safe to repeat."""
    request = coordinator_service_pb2.GetTaskRequest(name=f"tenants/default/tasks/t{number}")
    return stub.GetTask(request, timeout=_CALL_SECONDS)


def submit(stub: Any, number: int) -> Any:
    """A call with an effect."""
    request = coordinator_service_pb2.SubmitTaskRequest(
        parent="tenants/default", request_id=f"r{number}"
    )
    return stub.SubmitTask(request, timeout=_CALL_SECONDS)


@asynccontextmanager
async def steady(stub: Any, *, per_second: float, call: Call = read) -> AsyncGenerator[Load]:
    """Calls inside the block; after it each call has ended."""
    load = Load()
    enough = asyncio.Event()
    calling = asyncio.create_task(_call(stub, call, load, per_second, enough))
    try:
        yield load
        enough.set()
        await calling
    finally:
        calling.cancel()
        await asyncio.wait([calling])


async def _call(
    stub: Any, call: Call, load: Load, per_second: float, enough: asyncio.Event
) -> None:
    loop = asyncio.get_running_loop()
    due = loop.time()
    number = 0
    async with asyncio.TaskGroup() as group:
        while not enough.is_set():
            number += 1
            group.create_task(_one(stub, call, number, load))
            # What a busy machine was late with is not made up for: that would be a burst.
            due = max(due + 1 / per_second, loop.time() - 0.1)
            await asyncio.sleep(due - loop.time())


async def _one(stub: Any, call: Call, number: int, load: Load) -> None:
    loop = asyncio.get_running_loop()
    begun = loop.time()
    try:
        answer = await call(stub, number)
        instance, failure = answer.task.labels["instance"], ""
    except grpc.aio.AioRpcError as error:
        instance, failure = "", f"{error.code().name}: {error.details()}"
    load.outcomes.append(Outcome(begun, loop.time() - begun, instance, failure))
