"""Tasks whose content retention removed while they were saved: the removal is repeated.

The saved log may have a part of such a task's events, or all of them and none of its large
content. Retention marks a task with the event `expired` first, and removes then; so what it
did is known from the end of the log, and done again after a restore.
"""

import base64
import json
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from typing import Final

from audit.entry import Entry, entry_of
from meshkit.bus import Bus, StoredMessage
from tasklog.partitions import Partition

# Of events before the saving began: a removal may have been under way.
_MARGIN: Final = 10_000
_BATCH: Final = 1024


async def collect(bus: Bus, partition: Partition, after: int) -> AsyncGenerator[bytes]:
    """What was written since, and just before that sequence, of tasks that have expired.

    A line an event, in their order.
    """
    expired = {
        entry.task async for entry, _ in _events(bus, partition, after) if entry.kind == "expired"
    }
    # Mostly there are none.
    if not expired:
        return
    async for entry, message in _events(bus, partition, after):
        if entry.task in expired:
            values = {
                "stream": partition.stream,
                "subject": message.subject,
                "event": entry.event.sequence,
                "payload": base64.b64encode(message.payload).decode("ascii"),
            }
            yield json.dumps(values).encode() + b"\n"


async def _events(
    bus: Bus, partition: Partition, after: int
) -> AsyncGenerator[tuple[Entry, StoredMessage]]:
    start = max(1, after - _MARGIN)
    async with aclosing(
        bus.read(partition.stream, partition.all_events, start_sequence=start, batch=_BATCH)
    ) as messages:
        async for message in messages:
            entry = entry_of(message)
            if entry is not None:
                yield entry, message


async def repeat(bus: Bus, lines: Iterable[bytes], partitions: Sequence[Partition]) -> int:
    """Appends what is missing, and removes what stands before `expired`; of how many tasks."""
    by_stream = {each.stream: each for each in partitions}
    tasks: dict[str, Partition] = {}
    for line in lines:
        values = json.loads(line)
        partition = by_stream[values["stream"]]
        scope = f"{values['subject'].rpartition('.')[0]}.*"
        tasks[scope] = partition
        last = await bus.last(partition.stream, scope)
        standing = entry_of(last) if last is not None else None
        before = standing.event.sequence if standing else 0
        if last is None or before < values["event"]:
            await bus.append(
                values["subject"],
                base64.b64decode(values["payload"]),
                expected_last=last.sequence if last else 0,
                scope=scope,
            )
    for scope, partition in tasks.items():
        last = await bus.last(partition.stream, scope)
        if last is not None:
            await bus.purge(partition.stream, scope, before_sequence=last.sequence)
    return len(tasks)
