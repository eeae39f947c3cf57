"""Retention that is killed at any point, or done by two at once, ends as one that was not."""

import asyncio
from typing import Any

import pytest

from agentmesh.coordinator.v1 import task_pb2
from meshkit.bus import Bus
from services.coordinator.retention_bench import DAY, LARGE, Bench, id_of
from tasklog import subjects
from tasklog.partitions import WHOLE

pytest_plugins = [
    "meshtest.fixtures",
    "services.coordinator.coordinator_mesh",
    "services.coordinator.retention_bench",
]


class _Killed(BaseException):
    """The process ends here."""


class _MortalBus(Bus):
    """Changes so many things at the server, and is killed before the next one."""

    changes_left: int | None = None

    def _change(self) -> None:
        if self.changes_left is not None:
            if self.changes_left == 0:
                raise _Killed
            self.changes_left -= 1

    async def append(self, *args: Any, **options: Any) -> int:
        self._change()
        return await super().append(*args, **options)

    async def purge(self, *args: Any, **options: Any) -> int:
        self._change()
        return await super().purge(*args, **options)


@pytest.mark.parametrize("rebuilt", [False, True])
async def test_a_kill_at_any_point_is_made_good(bench: Bench, nats_url: str, rebuilt: bool) -> None:
    """The task can be asked for in between, and nothing of it is left behind.

    It is made good by the coordinator that comes up again, and by one that
    builds its read model anew.
    """
    async with await _MortalBus.connect(nats_url, name="mortal") as bus:
        killed, changes = True, -1
        while killed:
            changes += 1
            task = await bench.mesh.submit(LARGE, f"r{changes}")
            await bench.mesh.execute(task, "started", "completed")
            await bench.snapshot(task)
            mortal = await bench.retention(bus)
            await mortal.caught_up()
            await bench.clock.advance(31 * DAY)
            bus.changes_left = changes
            try:
                await mortal.retention.remove_due()
                killed = False
            except _Killed:
                killed = True
            bus.changes_left = None

            assert (await bench.get(task)).state == task_pb2.TASK_STATE_SUCCEEDED
            assert (await bench.mesh.submit(LARGE, f"r{changes}")).name == task.name
            seen = [entry async for entry in bench.mesh.log.read("acme", id_of(task))]
            assert len(seen) in (1, 3, 4)

            after = await bench.retention() if rebuilt else mortal
            await after.remove_due()
            assert await bench.kinds(task) == ["expired"]
            assert not await bench.blobs(task)
            assert not await bench.has_snapshot(task)
            assert not await after.ended.half_removed(after=None, limit=10)
    # The event, the snapshot, two large contents of two messages each, and the log.
    assert changes == 7
    assert not await bench.mesh.bus.subjects("OBJ_blobs", "$O.blobs.>")


async def test_two_at_once_remove_what_one_would(bench: Bench) -> None:
    """Each task is marked once, and the tenant keeps all that it may."""
    tasks = [await bench.ended(LARGE) for _ in range(6)]
    keepers = [await bench.retention(writer=f"coordinator/{number}") for number in range(2)]
    for keeper in keepers:
        await keeper.caught_up()
    (use,) = await keepers[0].ended.tenants()
    await bench.tier(retention_bytes=use.size_bytes // 2 + 5_000)
    await bench.clock.advance(120)
    await asyncio.gather(*(keeper.retention.remove_due() for keeper in keepers))
    assert [await bench.kinds(task) for task in tasks[:3]] == [["expired"]] * 3
    assert [len(await bench.events(task)) for task in tasks[3:]] == [3] * 3
    for keeper in keepers:
        await keeper.remove_due()
    assert [len(await bench.events(task)) for task in tasks] == [1, 1, 1, 3, 3, 3]
    assert {event.sequence for task in tasks[:3] for event in await bench.events(task)} == {4}


async def test_what_cannot_be_read_stops_nothing_else(bench: Bench) -> None:
    """A log without its beginning stays as it is; content that is missing does not matter."""
    damaged, poor, whole = [await bench.ended(LARGE) for _ in range(3)]
    await bench.mesh.bus.purge(WHOLE.stream, f"task.acme.{id_of(damaged)}.standard-0")
    await bench.mesh.bus.delete_blobs(subjects.owner("acme", id_of(poor)))
    keeper = await bench.retention()
    await bench.clock.advance(31 * DAY)
    await keeper.remove_due()
    assert await bench.kinds(damaged) == ["started", "completed"]
    assert await bench.kinds(poor) == await bench.kinds(whole) == ["expired"]
