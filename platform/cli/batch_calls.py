"""Submitting many tasks, and what is printed of it."""

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator, Mapping
from typing import Final

from agentmesh.coordinator.v1.coordinator_service_pb2 import (
    BatchSubmitTasksItem,
    BatchSubmitTasksRequest,
    BatchSubmitTasksResult,
    SubmitTaskRequest,
)
from cli.explain import explain
from cli.gateway import CALL_SECONDS, CALLER, Gateway, call
from cli.invocation import Invocation
from cli.mesh_access import address_of
from cli.plain import to_plain
from cli.progress_bar import tell_each
from cli.terminal import Terminal
from cli.wording import plural
from meshkit.errors import (
    DeadlineExceeded,
    DependencyUnavailable,
    RateLimited,
    ShuttingDown,
    from_status,
)

_MOST_ITEMS: Final = 1000
# Well under the largest message that the mesh takes.
_MOST_BYTES: Final = 2 * 1024 * 1024
_BATCH_SECONDS: Final = 60.0
# How long to go on while nothing is accepted or refused.
_PATIENCE_SECONDS: Final = 30.0
_PAUSE_SECONDS: Final = 0.5
_LONGEST_PAUSE_SECONDS: Final = 10.0
_BROKEN: Final = (DependencyUnavailable, DeadlineExceeded, ShuttingDown)


def submit(invocation: Invocation, requests: Mapping[int, SubmitTaskRequest]) -> bool:
    """Submits the tasks of a file's lines and prints what became of each. False if one was refused.

    What breaks or comes too fast is submitted again under its request_id.
    """
    terminal = invocation.terminal

    async def run(gateway: Gateway) -> list[BatchSubmitTasksResult]:
        return await tell_each(
            terminal,
            results(gateway, requests, tenant=invocation.tenant),
            lambda result: _tell(terminal, result),
            what="Submitting",
            total=len(requests),
        )

    answered = call(address_of(invocation), invocation.tenant, run)
    refused = sum(each.HasField("error") for each in answered)
    terminal.progress(f"{plural(len(answered) - refused, 'task')} accepted, {refused:,} refused.")
    return not refused


async def results(
    gateway: Gateway, requests: Mapping[int, SubmitTaskRequest], *, tenant: str
) -> AsyncGenerator[BatchSubmitTasksResult]:
    """What became of each request, as it is known; `index` is the request's key.

    Raises MeshError where the mesh is not heard of for 30 seconds. What it
    answers with a refusal that may pass counts after 30 seconds without progress.
    """
    for batch in _batches(requests):
        heard = time.monotonic()
        while batch:
            pause = _PAUSE_SECONDS
            patient = time.monotonic() - heard < _PATIENCE_SECONDS
            try:
                async for result in _answers(gateway, dict(batch), tenant):
                    again = _again_seconds(result)
                    if again is not None and patient:
                        pause = max(pause, again)
                    elif batch.pop(result.index, None) is not None:
                        heard = time.monotonic()
                        yield result
            except _BROKEN:
                if not patient:
                    raise
            if batch:
                await asyncio.sleep(pause)


async def _answers(
    gateway: Gateway, batch: Mapping[int, SubmitTaskRequest], tenant: str
) -> AsyncGenerator[BatchSubmitTasksResult]:
    request = BatchSubmitTasksRequest()
    for index, each in batch.items():
        item = BatchSubmitTasksItem(request=each)
        item.context.index = index
        item.context.tenant = tenant
        item.context.caller = CALLER
        item.context.timeout.FromSeconds(round(CALL_SECONDS))
        request.items.append(item)
    async for answer in gateway.coordinator.BatchSubmitTasks(request, timeout=_BATCH_SECONDS):
        for result in answer.results:
            yield result


def _batches(
    requests: Mapping[int, SubmitTaskRequest],
) -> Iterator[dict[int, SubmitTaskRequest]]:
    batch: dict[int, SubmitTaskRequest] = {}
    size = 0
    for index, request in requests.items():
        length = request.ByteSize()
        if batch and (len(batch) == _MOST_ITEMS or size + length > _MOST_BYTES):
            yield batch
            batch, size = {}, 0
        batch[index] = request
        size += length
    if batch:
        yield batch


def _again_seconds(result: BatchSubmitTasksResult) -> float | None:
    """After how many seconds the item should be submitted again; None if that would not help."""
    if not result.HasField("error"):
        return None
    error = from_status(result.error)
    if isinstance(error, (RateLimited, *_BROKEN)):
        return min(error.retry_after_seconds or 0.0, _LONGEST_PAUSE_SECONDS)
    return None


def _tell(terminal: Terminal, result: BatchSubmitTasksResult) -> None:
    if terminal.as_json:
        outcome = (
            {"error": explain(from_status(result.error)).document()["error"]}
            if result.HasField("error")
            else {"task": to_plain(result.response.task)}
        )
        terminal.line({"line": result.index, **outcome})
    elif result.HasField("error"):
        terminal.say(
            f"{result.index:>6}  refused: {explain(from_status(result.error)).line()}", style="red"
        )
    else:
        terminal.say(f"{result.index:>6}  {result.response.task.name}")
