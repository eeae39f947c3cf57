"""How tasks ended, carried from their log into the ledger: for the cost of a success.

Nobody waits for it, so it is read in large batches: each task is one event of
the log and a share of one statement.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import sqlalchemy as sa

from agentmesh.coordinator.v1 import task_pb2
from meshkit.bus import Bus, Followed
from meshkit.errors import MeshError
from meshkit.log import Log
from services.governor.ledger_tables import TASK
from services.governor.ledger_writer import POSITIONS
from sqlstore.carrier import Pace, Source
from sqlstore.database import Database
from sqlstore.positions import INSERT, Place
from sqlstore.projector import Projector
from tasklog import partition_store, subjects
from tasklog.formats import EVENTS
from tasklog.lifecycle import TERMINAL
from tasklog.partitions import Partition

_PACE: Final = Pace(usual=2.0, busy=2.0)
# A new mesh has no log yet, and a broker may be away.
_LOOK_AGAIN_SECONDS: Final = 2.0
_NANOSECONDS_A_MICRO: Final = 1_000


class Ended(NamedTuple):
    """A task that ended."""

    tenant: str
    task: str
    ended_micros: int
    succeeded: bool


class TaskEnds:
    """A copy of how tasks ended. One that was begun again and ends again has ended then."""

    def __init__(self, database: Database) -> None:
        self._database: Final = database

    async def lead(self) -> None:
        """Returns once this process is the one that carries into the ledger."""
        await self._database.lead()

    async def resign(self) -> None:
        """Lets another process carry, if one wants to."""
        await self._database.resign()

    async def places(self) -> Mapping[str, Place]:
        """How far each stream was carried."""
        return await self._database.read(POSITIONS.all)

    async def apply(
        self, entries: Sequence[Ended | None], *, stream: str, before: Place, after: Place
    ) -> None:
        """Takes over what ended between two places of a stream.

        Raises:
            Moved: The stream is not at `before` any more. Nothing was written.
        """
        # A task may end more than once: the last one counts.
        ended = {(each.tenant, each.task): each for each in entries if each is not None}

        def work(connection: sa.Connection) -> None:
            POSITIONS.advance(connection, stream, before, after)
            if ended:
                _write(connection, sorted(ended.values()))

        await self._database.carry(work)

    async def clear(self, stream: str) -> None:
        """Begins at the beginning of the stream again."""

        def work(connection: sa.Connection) -> None:
            POSITIONS.forget(connection, stream)

        await self._database.carry(work)


async def carry_ends(bus: Bus, database: Database, log: Log) -> None:
    """Carries for ever, once there is a log of tasks."""
    while True:
        try:
            partitions = (await partition_store.look_up(bus)).all
            if await _all_there(bus, partitions):
                break
        except MeshError as error:
            log.warning("projection.waits", error=str(error))
        await asyncio.sleep(_LOOK_AGAIN_SECONDS)
    sources = [source_of(each) for each in partitions]
    await Projector(bus, TaskEnds(database), log, sources=sources).run()


def source_of(partition: Partition) -> Source[Ended | None]:
    """The events of a part of the log with which tasks may end."""
    filters = [f"{partition.prefix}.*.*.{token}" for token in subjects.ENDS]
    return Source(partition.stream, filters, ended, _PACE)


def ended(message: Followed) -> Ended | None:
    """What an event says of its task's end; None where that goes on.

    Raises:
        DecodeError: It is no event.
        NewerFormat: Only a later version can read it.
    """
    event = EVENTS.decode(message.payload)
    state = event.status.state
    if state not in TERMINAL:
        return None
    tenant, task = subjects.parse(message.subject)
    return Ended(
        tenant,
        task,
        message.timestamp_ns // _NANOSECONDS_A_MICRO,
        state == task_pb2.TASK_STATE_SUCCEEDED,
    )


async def _all_there(bus: Bus, partitions: Sequence[Partition]) -> bool:
    for each in partitions:
        if await bus.stream_info(each.stream) is None:
            return False
    return True


def _write(connection: sa.Connection, ended: Sequence[Ended]) -> None:
    insert = INSERT[connection.dialect.name](TASK)
    statement = insert.on_conflict_do_update(
        index_elements=["tenant", "name"],
        set_={name: insert.excluded[name] for name in ("ended_micros", "succeeded")},
    )
    connection.execute(
        statement,
        [
            {
                "tenant": each.tenant,
                "name": each.task,
                "ended_micros": each.ended_micros,
                "succeeded": each.succeeded,
            }
            for each in ended
        ],
    )
