"""Tasks whose content retention removed while they were saved: the removal is repeated.

The saved log may have a part of such a task's events, or all of them and none of its large
content. Retention marks a task with the event `expired` first, and removes then; so what it
did is known from the end of the log, and done again after a restore.
"""

import base64
import json
from collections.abc import Iterable, Sequence
from contextlib import aclosing
from typing import Any, Final

from audit.entry import Entry, entry_of
from meshkit.bus import Bus
from tasklog.partitions import Partition

# Of events before the saving began: a removal may have been under way.
_MARGIN: Final = 10_000
_BATCH: Final = 1024


async def collect(bus: Bus, partition: Partition, after: int) -> list[bytes]:
    """What was written since, and just before that sequence, of tasks that have expired.

    A line an event, in their order.
    """
    events: dict[Any, list[tuple[Entry, str, bytes]]] = {}
    async with aclosing(
        bus.read(
            partition.stream,
            partition.all_events,
            start_sequence=max(1, after - _MARGIN),
            batch=_BATCH,
        )
    ) as messages:
        async for message in messages:
            entry = entry_of(message)
            if entry is not None:
                events.setdefault(entry.task, []).append((entry, message.subject, message.payload))
    expired = [each for log in events.values() if log[-1][0].kind == "expired" for each in log]
    return [
        json.dumps(
            {
                "stream": partition.stream,
                "subject": subject,
                "event": entry.event.sequence,
                "payload": base64.b64encode(payload).decode("ascii"),
            }
        ).encode()
        + b"\n"
        for entry, subject, payload in sorted(expired, key=lambda each: each[0].stream_sequence)
    ]


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
