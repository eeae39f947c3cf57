"""CoordinatorService: decodes, calls the coordinator, encodes."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, Final

from agentmesh.coordinator.v1 import coordinator_service_pb2 as pb
from agentmesh.coordinator.v1.coordinator_service_pb2_grpc import CoordinatorServiceServicer
from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent
from agentmesh.coordinator.v1.task_pb2 import Task
from meshkit import page_token
from meshkit.batch import serve_items
from meshkit.bus import Bus
from meshkit.errors import InvalidField
from meshkit.operators import Operators
from services.coordinator import convert, dead_letter_convert, signal_convert
from services.coordinator.coordinator import Coordinator
from services.coordinator.dead_letters import DeadLetters
from services.coordinator.queue_stats import QueueStats
from services.coordinator.read_model import POSITION, ReadModel, TaskFilter
from services.coordinator.runs import Runs
from services.coordinator.settings import CoordinatorSettings
from services.coordinator.signals import Signals
from services.coordinator.updates import with_deltas

# grpc.aio's context has one type parameter pair per method; nothing here uses them.
_Context = Any
_MAX_BATCH_ITEMS: Final = 1_000
# Of a batch. Each holds some 8 KB until it is accepted, and of what all of them take at their
# highest the process gives little back.
_SUBMITTED_AT_ONCE: Final = 64


class CoordinatorServicer(CoordinatorServiceServicer):
    """The coordinator at the wire."""

    def __init__(
        self,
        coordinator: Coordinator,
        runs: Runs,
        signals: Signals,
        dead_letters: DeadLetters,
        read_model: ReadModel,
        queue_stats: QueueStats,
        bus: Bus,
        settings: CoordinatorSettings,
        operators: Operators,
    ) -> None:
        self._coordinator = coordinator
        self._runs = runs
        self._signals = signals
        self._dead_letters = dead_letters
        self._read_model = read_model
        self._queue_stats = queue_stats
        self._bus = bus
        self._settings = settings
        self._operators = operators

    async def SubmitTask(
        self, request: pb.SubmitTaskRequest, context: _Context
    ) -> pb.SubmitTaskResponse:
        response = pb.SubmitTaskResponse()
        response.task.CopyFrom(await self._submit(request))
        return response

    async def BatchSubmitTasks(
        self, request: pb.BatchSubmitTasksRequest, context: _Context
    ) -> AsyncIterator[pb.BatchSubmitTasksResponse]:
        answers = serve_items(
            request.items,
            lambda item: item.context,
            lambda item: self._submit(item.request),
            max_items=_MAX_BATCH_ITEMS,
            at_once=_SUBMITTED_AT_ONCE,
        )
        async with aclosing(answers):
            async for ready in answers:
                yield convert.batch_answers(ready)

    async def RunTask(
        self, request: pb.RunTaskRequest, context: _Context
    ) -> AsyncIterator[pb.RunTaskResponse]:
        after = convert.sequence_seen(request.after_sequence, request.request_id)
        if request.result_only and after:
            raise InvalidField("after_sequence", "must be 0 where only the result is wanted")
        wanted = self._wanted(request)
        if request.result_only:
            async with aclosing(self._runs.result(*wanted)) as tasks:
                async for task in tasks:
                    yield _run_response(task)
            return
        async with aclosing(self._runs.run(*wanted, after_sequence=after)) as updates:
            async for update in updates:
                yield _run_response(update)

    async def GetTask(self, request: pb.GetTaskRequest, context: _Context) -> pb.GetTaskResponse:
        tenant, task_id = convert.task_name(request.name)
        return pb.GetTaskResponse(task=await self._coordinator.get(tenant, task_id))

    async def ListTasks(
        self, request: pb.ListTasksRequest, context: _Context
    ) -> pb.ListTasksResponse:
        wanted = _filter(request)
        query = page_token.query_of(request)
        page = await self._read_model.list(
            wanted,
            position=page_token.decode(query, request.page_token, shape=POSITION),
            limit=page_token.page_size(request.page_size, default=50),
        )
        following = page_token.encode(query, page.next_position) if page.next_position else ""
        return pb.ListTasksResponse(tasks=page.tasks, next_page_token=following)

    async def CancelTask(
        self, request: pb.CancelTaskRequest, context: _Context
    ) -> pb.CancelTaskResponse:
        tenant, task_id = convert.task_name(request.name)
        task = await self._coordinator.cancel(tenant, task_id, request.reason)
        return pb.CancelTaskResponse(task=task)

    async def WatchTask(
        self, request: pb.WatchTaskRequest, context: _Context
    ) -> AsyncIterator[pb.WatchTaskResponse]:
        tenant, task_id = convert.task_name(request.name)
        after = convert.sequence(request.after_sequence, field="after_sequence")
        events = self._coordinator.follow(tenant, task_id, after_sequence=after)
        if not request.include_deltas:
            async with aclosing(events):
                async for event in events:
                    yield _watch_response(event)
            return
        async with aclosing(with_deltas(self._bus, tenant, task_id, events)) as updates:
            async for update in updates:
                yield _watch_response(update)

    async def ListTaskEvents(
        self, request: pb.ListTaskEventsRequest, context: _Context
    ) -> pb.ListTaskEventsResponse:
        tenant, task_id = convert.task_name(request.name)
        query = page_token.query_of(request)
        limit = page_token.page_size(request.page_size, default=100)
        position = page_token.decode(query, request.page_token, shape=r"[0-9]{1,18}")
        entries, beginning = await self._coordinator.events(
            tenant, task_id, from_stream_sequence=int(position or 1), limit=limit
        )
        following = page_token.encode(query, str(beginning)) if beginning else ""
        events = [entry.event for entry in entries]
        return pb.ListTaskEventsResponse(events=events, next_page_token=following)

    async def SignalTask(
        self, request: pb.SignalTaskRequest, context: _Context
    ) -> pb.SignalTaskResponse:
        tenant, task_id = convert.task_name(request.name)
        signal = signal_convert.signal(request.signal)
        request_id = convert.request_id(request.request_id)
        seen = convert.sequence(request.last_sequence, field="last_sequence")
        task = await self._signals.send(tenant, task_id, signal, request_id, last_sequence=seen)
        return pb.SignalTaskResponse(task=task)

    async def ListDeadLetters(
        self, request: pb.ListDeadLettersRequest, context: _Context
    ) -> pb.ListDeadLettersResponse:
        query = page_token.query_of(request)
        page = await self._dead_letters.list(
            dead_letter_convert.wanted(request),
            min_age=dead_letter_convert.min_age(request.min_age),
            position=page_token.decode(query, request.page_token, shape=POSITION),
            limit=page_token.page_size(request.page_size, default=50),
        )
        following = page_token.encode(query, page.next_position) if page.next_position else ""
        return pb.ListDeadLettersResponse(
            dead_letters=map(dead_letter_convert.letter, page.letters), next_page_token=following
        )

    async def RedriveDeadLetter(
        self, request: pb.RedriveDeadLetterRequest, context: _Context
    ) -> pb.RedriveDeadLetterResponse:
        tenant, task_id = convert.task_name(request.name)
        task = await self._dead_letters.redrive(
            tenant,
            task_id,
            comment=dead_letter_convert.comment(request.comment),
            request_id=convert.request_id(request.request_id),
        )
        return pb.RedriveDeadLetterResponse(task=task)

    async def DiscardDeadLetter(
        self, request: pb.DiscardDeadLetterRequest, context: _Context
    ) -> pb.DiscardDeadLetterResponse:
        tenant, task_id = convert.task_name(request.name)
        await self._dead_letters.discard(
            tenant,
            task_id,
            comment=dead_letter_convert.comment(request.comment),
            request_id=convert.request_id(request.request_id),
        )
        return pb.DiscardDeadLetterResponse()

    async def RedriveDeadLetters(
        self, request: pb.RedriveDeadLettersRequest, context: _Context
    ) -> AsyncIterator[pb.RedriveDeadLettersResponse]:
        progress = self._dead_letters.redrive_all(
            dead_letter_convert.wanted(request),
            min_age=dead_letter_convert.min_age(request.min_age),
            limit=dead_letter_convert.limit(request.limit),
            max_per_second=dead_letter_convert.max_per_second(request.max_per_second),
            comment=dead_letter_convert.comment(request.comment),
        )
        async with aclosing(progress) as steps:
            async for step in steps:
                yield dead_letter_convert.redriven(step)

    async def GetQueueStats(
        self, request: pb.GetQueueStatsRequest, context: _Context
    ) -> pb.GetQueueStatsResponse:
        tenant = convert.tenant_or_all(request.parent)
        if tenant is None:
            self._operators.require_caller("see the lanes of all tenants")
        return pb.GetQueueStatsResponse(lanes=await self._queue_stats.lanes(tenant))

    async def _submit(self, request: pb.SubmitTaskRequest) -> Task:
        return (await self._coordinator.submit(*self._wanted(request))).task

    def _wanted(self, request: pb.SubmitTaskRequest | pb.RunTaskRequest) -> tuple[str, Task, str]:
        """Whose task it is, what to do, and what makes the request repeatable."""
        tenant = convert.tenant(request.parent)
        task = convert.task(request.task, max_input_bytes=self._settings.max_input_bytes)
        return tenant, task, convert.request_id(request.request_id)


# What is answered is copied to its place, never given to a constructor: that would encode it and
# read it again.


def _run_response(update: Task | TaskEvent | pb.TextDelta) -> pb.RunTaskResponse:
    response = pb.RunTaskResponse()
    match update:
        case Task():
            response.task.CopyFrom(update)
        case TaskEvent():
            response.event.CopyFrom(update)
        case pb.TextDelta():
            response.delta.CopyFrom(update)
    return response


def _watch_response(update: TaskEvent | pb.TextDelta) -> pb.WatchTaskResponse:
    response = pb.WatchTaskResponse()
    match update:
        case TaskEvent():
            response.event.CopyFrom(update)
        case pb.TextDelta():
            response.delta.CopyFrom(update)
    return response


def _filter(request: pb.ListTasksRequest) -> TaskFilter:
    return TaskFilter(
        tenant=convert.tenant(request.parent),
        states=convert.state_filter(request.states),
        agent=convert.agent_filter(request.parent, request.agent),
        session=request.session,
        lane=request.lane,
        labels=convert.label_filter(request.labels),
        created_after=convert.time(request, "created_after"),
        created_before=convert.time(request, "created_before"),
    )
