"""The task log as the broker keeps it; only read."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Final

from audit.entry import Entry, entry_of
from audit.finding import TaskKey
from audit.queue_standing import Standing
from meshkit.bus import Bus
from tasklog import subjects
from tasklog.partitions import WHOLE

# Messages a request: more make it no quicker, fewer do slow it down.
_BATCH: Final = 2048


class JetStreamLog:
    """Reads events and how queues stand."""

    def __init__(self, bus: Bus) -> None:
        self._bus: Final = bus
        # A mesh that never ran has no log, and cannot be asked for one.
        self._is_there = True

    async def horizon(self) -> int:
        """The last stream sequence there is; 0 where there is no log. To be asked first."""
        info = await self._bus.stream_info(WHOLE.stream)
        self._is_there = info is not None
        return 0 if info is None else int(info["state"]["last_seq"])

    async def read(self, tenant: str, horizon: int) -> AsyncGenerator[Entry | int]:
        """Events up to `horizon`, of one tenant unless that is empty.

        A message that holds no event is given as its stream sequence.
        """
        scope = WHOLE.of_tenant(tenant) if tenant else WHOLE.all_events
        async with aclosing(self._bus.read(WHOLE.stream, scope, batch=_BATCH)) as messages:
            async for message in messages:
                if message.sequence > horizon:
                    return
                yield entry_of(message) or message.sequence

    async def of_task(self, task: TaskKey, *, after: int = 0) -> list[Entry]:
        """A task's events as they stand now, from after that stream sequence on."""
        if not self._is_there:
            return []
        scope = WHOLE.scope(task.tenant, task.task_id)
        async with aclosing(
            self._bus.read(WHOLE.stream, scope, start_sequence=after + 1)
        ) as messages:
            found = [entry_of(message) async for message in messages]
        return [entry for entry in found if entry is not None]

    async def owners(self, task_id: str) -> Sequence[TaskKey]:
        """The tasks of any tenant that have this id."""
        found = await self._bus.subjects(WHOLE.stream, WHOLE.of_task_id(task_id))
        return sorted({TaskKey(*subjects.parse(each)) for each in found})

    async def standings(self) -> Mapping[str, Standing]:
        """Every consumer of the log, by name."""
        if not self._is_there:
            return {}
        return {
            info["name"]: Standing(
                delivered=int(info["delivered"]["stream_seq"]),
                acknowledged=int(info["ack_floor"]["stream_seq"]),
                unacknowledged=int(info["num_ack_pending"]),
            )
            async for info in self._bus.consumers(WHOLE.stream)
        }
