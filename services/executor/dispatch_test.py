"""Whose tasks run when, on a real broker: fairness, limits, and what goes wrong with pulls."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack

import pytest

from agentmesh.common.v1 import tier_pb2
from meshkit.bus_puller import Puller
from meshkit.errors import DependencyUnavailable
from meshtest.eventually import eventually
from meshtest.proxy import FaultProxy
from services.executor import dispatcher, queue_news
from services.executor import worker as worker_module
from services.executor.dispatch_world import Mesh
from services.executor.queue_news import QueueNews
from services.executor.worker import Worker
from tasklog.partitions import WHOLE, Partitions
from tasklog.queues import CLAIM_SECONDS, NO_DEPTH, Depth, Queues
from tasklog.subjects import Queue

pytest_plugins = ["meshtest.fixtures", "services.executor.dispatch_world"]

_STANDARD = tier_pb2.LANE_STANDARD
_ACME, _SMALL = Queue("acme", _STANDARD, 0), Queue("small", _STANDARD, 0)


async def test_a_flood_hardly_delays_another_tenant(mesh: Mesh) -> None:
    """Twenty tasks behind two thousand are done before a hundred of those."""
    await mesh.submit(_ACME, 2000)
    await mesh.submit(_SMALL, 20)
    async with mesh.executor():
        await mesh.all_done(2020)
    last = max(n for n, subject in enumerate(mesh.script.done) if ".small." in subject)
    assert last + 1 - 20 < 100
    assert "dispatch.stalled" not in mesh.lines.getvalue()


async def test_a_tenant_that_comes_late_has_its_share_at_once(mesh: Mesh) -> None:
    """While a flood runs, twenty tasks of another tenant wait for few of it."""
    await mesh.submit(_ACME, 2000)
    async with mesh.executor():
        await eventually(lambda: len(mesh.script.done) > 200)
        mesh.script.gate.clear()
        await mesh.submit(_SMALL, 20)
        before = len(mesh.script.done)
        mesh.script.gate.set()
        await mesh.all_done(2020)
    last = max(n for n, subject in enumerate(mesh.script.done) if ".small." in subject)
    assert last + 1 - 20 - before < 100


async def test_a_tenants_priorities_come_in_order(mesh: Mesh) -> None:
    """Whatever was stored first, the highest is done first."""
    await mesh.limit(workers=1)
    queues = [Queue("acme", _STANDARD, priority) for priority in (0, 3, 9)]
    for queue in queues:
        await mesh.submit(queue, 30)
    async with mesh.executor():
        await mesh.all_done(90)
    order = [int(subject.rpartition("-")[2]) for subject in mesh.script.done]
    assert order == sorted(order, reverse=True)


async def test_a_tenants_limit_holds_over_executors(mesh: Mesh) -> None:
    """Two executors with eight workers each run three tasks of the tenant at once, never more."""
    await mesh.limit(workers=8, concurrent=3)
    await mesh.submit(_ACME, 60)
    mesh.script.gate.clear()
    async with mesh.executor(), mesh.executor():
        await eventually(lambda: mesh.script.busy["acme"] == 3)
        mesh.script.gate.set()
        await mesh.all_done(60)
    assert mesh.script.most["acme"] == 3


async def test_a_busy_lane_borrows_and_leaves_others_their_own(mesh: Mesh) -> None:
    """Its workers and the shared ones; another lane's worker is there for that one."""
    await mesh.limit(workers=1, shared=2)
    mesh.script.gate.clear()
    async with mesh.executor():
        await mesh.submit(_ACME, 10)
        await eventually(lambda: mesh.script.busy["standard-0"] == 3)
        await mesh.submit(Queue("acme", tier_pb2.LANE_BATCH, 0), 10)
        await eventually(lambda: mesh.script.busy["batch-0"] == 1)
        mesh.script.gate.set()
        await mesh.all_done(20)
    assert mesh.script.most["standard-0"] == 3


async def test_policies_change_under_load_and_nothing_is_lost(mesh: Mesh) -> None:
    """More workers begin at once; fewer let what runs end; all is done once."""
    await mesh.limit(workers=1)
    mesh.script.gate.clear()
    async with mesh.executor(), mesh.executor():
        await mesh.submit(_ACME, 300)
        await mesh.submit(_SMALL, 100)
        await eventually(lambda: mesh.script.busy["standard-0"] == 2)
        await mesh.limit(workers=5)
        await eventually(lambda: mesh.script.busy["standard-0"] == 10)
        await mesh.limit(workers=2)
        mesh.script.gate.set()
        await mesh.all_done(400)


async def test_a_task_whose_signal_was_lost_is_found(mesh: Mesh) -> None:
    """Looking now and then is enough."""
    async with mesh.executor():
        await mesh.submit(_ACME)
        await mesh.all_done(1)
        await mesh.submit(_SMALL, is_told=False)
        await mesh.all_done(2)


async def test_a_signal_that_means_nothing_is_passed_over(mesh: Mesh) -> None:
    """Whatever is said on the subjects of signals, the executor goes on."""
    async with mesh.executor():
        for subject in ("wake.x", "wake.standard.acme", "wake.idle-0.acme", "wake.a.b.c.d"):
            await mesh.bus.signal(subject, b"?")
        await mesh.submit(_ACME)
        await mesh.all_done(1)


async def test_a_queue_whose_consumer_is_gone_is_made_again(mesh: Mesh) -> None:
    """Nothing that stands in the log is passed over."""
    await mesh.submit(_ACME, 3)
    await mesh.bus.delete_consumer(WHOLE.stream, _ACME.durable)
    async with mesh.executor():

        async def found() -> bool:
            await mesh.bus.signal(_ACME.wake, b"")
            return bool(mesh.script.done)

        await eventually(found)
        await mesh.all_done(3)


async def test_an_executor_that_dies_is_followed_by_one_that_was_there(mesh: Mesh) -> None:
    """Its tasks go to the other when its claims have run out; nobody has to submit anything."""
    mesh.script.gate.clear()
    async with FaultProxy(mesh.nats.port) as proxy, AsyncExitStack() as stack:
        await stack.enter_async_context(mesh.executor(f"nats://127.0.0.1:{proxy.port}"))
        await mesh.submit(_ACME, 3)
        await eventually(lambda: len(mesh.script.begun) == 3)
        await stack.enter_async_context(mesh.executor())
        proxy.refuse = True
        proxy.cut()
        await eventually(lambda: len(mesh.script.begun) == 6)
        assert set(Counter(mesh.script.begun).values()) == {2}


async def test_an_executor_that_stops_gives_back_what_it_did_not_begin(mesh: Mesh) -> None:
    """It goes to another at once, before the claim on what it had begun has run out."""
    mesh.script.gate.clear()
    await mesh.limit(workers=1)
    async with mesh.executor() as worker:
        await mesh.submit(_ACME)
        await eventually(lambda: len(mesh.script.begun) == 1)
        await mesh.submit(_SMALL, 3)
        # As if a pull that waits had brought more than there are workers for.
        await _puller(worker).ask(_SMALL.durable, 3, 2.0)

        async def pulled() -> bool:
            return await mesh.standing(_SMALL) == (0, 3)

        await eventually(pulled)
        assert len(mesh.script.begun) == 1
        stopped = time.monotonic()
    mesh.script.gate.set()
    async with mesh.executor():
        await eventually(lambda: len(mesh.script.begun) > 1)
        waited_seconds = time.monotonic() - stopped
        await mesh.all_done(4)
    # The last beat was a second before the stop at most. Where starting the other
    # took so long that the claim ran out meanwhile, the order says nothing.
    if waited_seconds < CLAIM_SECONDS - 1:
        assert mesh.script.begun[1].split(".")[1] == "small", waited_seconds
    assert Counter(each.split(".")[1] for each in mesh.script.done) == {"small": 3, "acme": 1}


async def test_work_goes_on_after_the_broker_was_restarted(mesh: Mesh) -> None:
    """Pulls that waited, tasks that ran and signals that were lost cost nothing."""
    async with mesh.executor():
        await mesh.submit(_ACME, 20)
        await mesh.all_done(20)
        mesh.script.gate.clear()
        await mesh.submit(_ACME, 10)
        await eventually(lambda: mesh.script.busy["acme"] == 4)
        mesh.nats.restart()
        await mesh.submit(_SMALL, 10)
        mesh.script.gate.set()
        await eventually(lambda: len(set(mesh.script.done)) == 40)


@pytest.mark.parametrize("outage_seconds", [0.0, CLAIM_SECONDS + 1])
async def test_tasks_that_run_stay_where_they_are_when_the_broker_is_restarted(
    mesh: Mesh, outage_seconds: float
) -> None:
    """However long it was away, an executor that lives keeps its tasks."""
    mesh.script.gate.clear()
    async with mesh.executor(), mesh.executor():
        await mesh.submit(_ACME, 8)
        await eventually(lambda: mesh.script.busy["acme"] == 8)
        await asyncio.sleep(CLAIM_SECONDS)  # the broker writes down who has what
        mesh.nats.kill()
        await asyncio.sleep(outage_seconds)
        mesh.nats.start()
        await asyncio.sleep(2 * CLAIM_SECONDS)  # whatever might be begun again would be by now
        assert set(Counter(mesh.script.begun).values()) == {1}
        mesh.script.gate.set()
        await mesh.all_done(8)


async def test_a_task_whose_executor_died_with_the_broker_goes_to_another(mesh: Mesh) -> None:
    """Nobody beats for it: another executor has it after one more claim."""
    mesh.script.gate.clear()
    async with FaultProxy(mesh.nats.port) as proxy, AsyncExitStack() as stack:
        await stack.enter_async_context(mesh.executor(f"nats://127.0.0.1:{proxy.port}"))
        await mesh.submit(_ACME, 3)
        await eventually(lambda: len(mesh.script.begun) == 3)
        await stack.enter_async_context(mesh.executor())
        await asyncio.sleep(CLAIM_SECONDS)  # the broker writes down who has what
        proxy.refuse = True
        mesh.nats.restart()
        proxy.cut()
        await eventually(lambda: len(mesh.script.begun) == 6)
        assert set(Counter(mesh.script.begun).values()) == {2}


async def test_who_lost_a_task_does_not_keep_it_from_others(mesh: Mesh) -> None:
    """An executor that was cut off for long comes back; the one that took over dies."""
    mesh.script.gate.clear()
    async with (
        FaultProxy(mesh.nats.port) as one,
        FaultProxy(mesh.nats.port) as two,
        mesh.executor(f"nats://127.0.0.1:{one.port}") as first,
    ):
        await mesh.submit(_ACME)
        await eventually(lambda: len(mesh.script.begun) == 1)
        async with mesh.executor(f"nats://127.0.0.1:{two.port}"):
            one.refuse = True
            one.cut()
            await eventually(lambda: len(mesh.script.begun) == 2)
            one.refuse = False
            await eventually(lambda: _is_up(first))
            async with mesh.executor():
                two.refuse = True
                two.cut()
                await eventually(lambda: len(mesh.script.begun) == 3)


async def test_pulls_that_bring_nothing_are_begun_anew(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task that waits while workers are free is noticed, reported, and fetched another way."""
    monkeypatch.setattr(dispatcher, "_STALL_SECONDS", 0.5)
    async with mesh.executor() as worker:
        await mesh.submit(_ACME)
        await mesh.all_done(1)
        # The broker forgets who listens, and the connection looks alive.
        _deafen(_puller(worker))
        await mesh.submit(_SMALL)
        await mesh.all_done(2)
    assert '"dispatch.stalled"' in mesh.lines.getvalue()


async def test_a_queue_that_stalls_disturbs_no_other(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is reported; pulls for other tenants go on."""
    monkeypatch.setattr(dispatcher, "_STALL_SECONDS", 0.5)
    # However busy the machine is, nothing is silent for so long.
    monkeypatch.setattr(worker_module, "_SILENCE_SECONDS", 60.0)
    await mesh.submit(_ACME)
    await mesh.bus.signal(
        f"$JS.API.CONSUMER.PAUSE.{WHOLE.stream}.{_ACME.durable}",
        b'{"pause_until": "2999-01-01T00:00:00Z"}',
    )

    async def is_paused() -> bool:
        info = await mesh.bus.consumer_info(WHOLE.stream, _ACME.durable)
        return bool(info.get("paused"))

    await eventually(is_paused)
    async with mesh.executor() as worker:
        await mesh.submit(_SMALL)
        await mesh.all_done(1)
        restarts = list[bool]()

        async def restart() -> None:
            restarts.append(True)

        monkeypatch.setattr(_puller(worker), "restart", restart)
        for tasks in range(2, 200):
            await mesh.submit(_SMALL)
            await mesh.all_done(tasks)
            if mesh.lines.getvalue().count('"dispatch.stalled"') >= 3:
                break
            await asyncio.sleep(0.1)
        assert mesh.lines.getvalue().count('"dispatch.stalled"') >= 3
    assert restarts == []


async def test_however_long_a_look_takes_the_next_is_within_a_claim(mesh: Mesh) -> None:
    """So that a dead executor's tasks are known to others before its claims run out."""
    assert queue_news._LONGEST_PAUSE_SECONDS < CLAIM_SECONDS  # pyright: ignore[reportPrivateUsage]

    class Many(Queues):
        async def all(self) -> AsyncGenerator[tuple[Queue, Depth]]:
            # As with some ten thousand queues: a hundredth of the time is over a minute.
            await asyncio.sleep(0.7)
            yield _ACME, NO_DEPTH

    looks = list[Queue]()
    news = QueueNews(mesh.bus, Many(mesh.bus, Partitions(), mesh.policies))
    looking = asyncio.create_task(news.look(lambda: None, lambda queue, _: looks.append(queue)))
    await eventually(lambda: len(looks) == 2)
    looking.cancel()


async def _is_up(worker: Worker) -> bool:
    try:
        await worker._bus.check()  # pyright: ignore[reportPrivateUsage]
    except DependencyUnavailable:
        return False
    return True


def _puller(worker: Worker) -> Puller:
    (puller,) = worker._pullers.values()  # pyright: ignore[reportPrivateUsage]
    return puller


def _deafen(puller: Puller) -> None:
    subscription = puller._subscription  # pyright: ignore[reportPrivateUsage]
    subscription._client.refuse(subscription._number)
