"""Pulls runnable tasks from their queues, has them run, and keeps the claims on them alive."""

import asyncio
import contextlib
import math
import time
from collections.abc import Callable
from typing import Final, Protocol

from meshkit.bus import Bus, Delivery, Puller
from meshkit.errors import MeshError
from meshkit.log import Log
from services.executor.dispatcher import Dispatcher
from services.executor.held import Held
from services.executor.queue_news import QueueNews
from services.executor.queue_view import QueueView
from tasklog import subjects
from tasklog.partitions import Partition, Partitions
from tasklog.policy import Policy
from tasklog.queues import CLAIM_SECONDS, Depth, Queues
from tasklog.subjects import Queue

# The broker hears three times within a claim that its owner is alive.
_BEAT_SECONDS: Final = CLAIM_SECONDS / 3
# Under load, pulls that are a little apart bring several tasks at once.
_BETWEEN_PULLS_SECONDS: Final = 0.005
# A task that has waited here for a worker for so long may find one elsewhere.
_PARK_SECONDS: Final = 1.0
# For so long after a restart of the broker, what is delivered again may have an owner.
_DOUBT_NANOSECONDS: Final = 60 * 10**9
# A pull that waits is used, or ended by the broker, within less.
_SILENCE_SECONDS: Final = 3.0
_FAULT_PAUSE_SECONDS: Final = 30.0
_LISTEN_AGAIN_SECONDS: Final = 1.0

# A stored message: its stream, and its sequence there.
_Message = tuple[str, int]


class TaskRunner(Protocol):
    """Runs delivered tasks."""

    async def run(self, held: Held) -> None: ...
    def cancel(self, tenant: str, task_id: str) -> None: ...


class Policies(Protocol):
    """The limits in force, which change at run time."""

    @property
    def current(self) -> Policy: ...
    def on_change(self, listener: Callable[[], None]) -> None: ...


class Worker:
    """The loops of one executor. Which task is next, its dispatcher decides."""

    def __init__(
        self,
        *,
        bus: Bus,
        partitions: Partitions,
        queues: Queues,
        runner: TaskRunner,
        log: Log,
        policies: Policies,
    ) -> None:
        self._bus = bus
        self._partitions = partitions
        self._runner = runner
        self._log = log
        self._policies = policies
        self._queues = queues
        self._news = QueueNews(bus, queues)
        self._dispatcher = Dispatcher[Held](policies.current)
        self._is_due = asyncio.Event()
        # By the durable name of its consumer.
        self._views: dict[str, QueueView[Held]] = {}
        # What runs, and what is parked.
        self._held: dict[_Message, Held] = {}
        # Messages that came when this executor had begun to stop.
        self._unwanted: list[Held] = []
        # From where something was not delivered that should have been.
        self._stalled: set[Partition] = set()
        self._is_stopping = False
        # When the broker was back after a restart, in nanoseconds since 1970, and what
        # of before was left to its owner since then.
        self._restarted_ns = 0
        self._left: set[_Message] = set()
        self._pullers: dict[Partition, Puller] = {}
        self._group: asyncio.TaskGroup

    async def run(self) -> None:
        """Works until cancelled; then gives its tasks back to their queues."""
        self._policies.on_change(self._resize)
        self._resize()
        async with asyncio.TaskGroup() as self._group:
            # Before the pullers: claims come first.
            self._bus.on_reconnect(self._reconnect)
            for each in self._partitions.all:
                self._pullers[each] = await self._bus.puller(
                    each.stream,
                    acknowledge_wait_seconds=CLAIM_SECONDS,
                    deliver=self._take,
                    ended=self._end,
                )
            self._group.create_task(self._dispatch())
            self._group.create_task(self._news.hear(self._wake))
            self._group.create_task(self._news.look(self._begin_look, self._look))
            self._group.create_task(self._keep_claims())
            self._group.create_task(self._hear_cancels())

    async def _dispatch(self) -> None:
        time_of_next = 0.0
        try:
            while True:
                await self._is_due.wait()
                # Not after a pull: where the next one is far off, that would wake the process.
                if (pause := time_of_next - time.monotonic()) > 0:
                    await asyncio.sleep(pause)
                self._is_due.clear()
                plan = self._dispatcher.plan()
                for held in plan.begin:
                    self._begin(held)
                for ask in plan.ask:
                    queue = ask.view.queue
                    puller = self._pullers[self._partitions.of(queue.tenant)]
                    await puller.ask(queue.durable, ask.places, ask.expires_seconds)
                if plan.ask:
                    time_of_next = time.monotonic() + _BETWEEN_PULLS_SECONDS
        finally:
            self._is_stopping = True
            await self._give_back()

    async def _give_back(self) -> None:
        for puller in self._pullers.values():
            await puller.close()
        for held in (*self._unwanted, *self._dispatcher.unpark(math.inf)):
            await self._postpone(held, 0.0)

    def _nudge(self) -> None:
        if self._dispatcher.is_due:
            self._is_due.set()

    def _view(self, queue: Queue) -> QueueView[Held]:
        view = self._dispatcher.view(queue)
        self._views[queue.durable] = view
        return view

    def _resize(self) -> None:
        self._dispatcher.resize(self._policies.current)
        self._news.look_soon()
        self._nudge()

    def _wake(self, queue: Queue) -> None:
        self._dispatcher.wake(self._view(queue))
        self._nudge()

    def _begin_look(self) -> None:
        for partition, puller in self._pullers.items():
            puller.end_overdue()
            # Where other queues' pulls are answered, it is that queue's own trouble.
            if partition in self._stalled and puller.silent_seconds > _SILENCE_SECONDS:
                self._group.create_task(self._restart(puller))
        self._stalled.clear()
        self._dispatcher.begin_look()

    def _look(self, queue: Queue, depth: Depth) -> None:
        if not self._dispatcher.look(self._view(queue), depth, time.monotonic()):
            self._log.warning("dispatch.stalled", queue=queue.durable, queued=depth.queued)
            self._stalled.add(self._partitions.of(queue.tenant))
        self._nudge()

    async def _restart(self, puller: Puller) -> None:
        with contextlib.suppress(MeshError):
            await puller.restart()

    def _reconnect(self, is_same_server: bool) -> None:
        if self._is_stopping:
            return
        if not is_same_server:
            # It counts the time that it was away: every claim may have run out,
            # though nobody else can have heard of that.
            self._restarted_ns = time.time_ns()
            self._left.clear()
        self._group.create_task(self._claim_again(is_same_server))

    async def _claim_again(self, is_same_server: bool) -> None:
        with contextlib.suppress(MeshError):
            now = time.monotonic()
            for held in tuple(self._held.values()):
                if not is_same_server or held.latest.expires_at > now:
                    await held.in_progress()

    def _is_in_doubt(self, delivery: Delivery) -> bool:
        """Whether its claim may have run out only because the broker was away.

        The broker puts it in line for others before it hears from its owner, and
        there it stays for as long as all workers are busy.
        """
        return (
            delivery.delivery_count > 1
            and delivery.timestamp_ns < self._restarted_ns
            and time.time_ns() < self._restarted_ns + _DOUBT_NANOSECONDS
            and _message(delivery) not in self._left
        )

    async def _leave(self, delivery: Delivery) -> None:
        # Its owner's next beat keeps it; without one it comes again after this.
        with contextlib.suppress(MeshError):
            await delivery.not_now(CLAIM_SECONDS)

    def _take(self, delivery: Delivery) -> None:
        view = self._views[delivery.consumer]
        now, held = time.monotonic(), self._held.get(_message(delivery))
        if self._is_stopping:
            self._unwanted.append(Held(delivery))
        elif held is not None:
            held.latest = delivery
            self._dispatcher.take_again(view, pending=delivery.pending, now=now)
        elif self._is_in_doubt(delivery):
            self._left.add(_message(delivery))
            self._dispatcher.take_again(view, pending=delivery.pending, now=now)
            self._group.create_task(self._leave(delivery))
        else:
            held = self._held[_message(delivery)] = Held(delivery)
            if self._dispatcher.take(
                view,
                held,
                is_repeated=delivery.delivery_count > 1,
                pending=delivery.pending,
                now=now,
            ):
                self._begin(held)
        self._nudge()

    def _end(self, consumer: str, is_missing: bool) -> None:
        view = self._views[consumer]
        self._dispatcher.close(view)
        if is_missing and not self._is_stopping:
            self._group.create_task(self._renew(view.queue))
        self._nudge()

    async def _renew(self, queue: Queue) -> None:
        with contextlib.suppress(MeshError):
            await self._bus.ensure_consumer(self._queues.spec(queue))
        self._news.look_soon()

    def _begin(self, held: Held) -> None:
        self._group.create_task(self._handle(held))

    async def _handle(self, held: Held) -> None:
        delivery = held.latest
        try:
            await self._runner.run(held)
        except MeshError as error:
            # The log could not be read or written: whoever gets it next tries again.
            self._log.warning("task.postponed", subject=delivery.subject, error=str(error))
            await self._postpone(held, CLAIM_SECONDS)
        except Exception:
            # A fault of ours with this one task must not take the others down.
            self._log.exception("task.postponed", subject=delivery.subject)
            await self._postpone(held, _FAULT_PAUSE_SECONDS)
        finally:
            del self._held[_message(delivery)]
            self._dispatcher.finish(self._views[delivery.consumer], is_put_off=held.is_put_off)
            self._nudge()

    async def _postpone(self, held: Held, seconds: float) -> None:
        # Without a connection the claim runs out by itself.
        with contextlib.suppress(MeshError):
            await held.not_now(seconds)

    async def _keep_claims(self) -> None:
        while True:
            await asyncio.sleep(_BEAT_SECONDS)
            for held in self._dispatcher.unpark(time.monotonic() - _PARK_SECONDS):
                del self._held[_message(held.latest)]
                await self._postpone(held, 0.0)
            with contextlib.suppress(MeshError):
                # While NATS is away beats would only fill its buffer.
                await self._bus.check()
                # A claim that has only begun may wait for the next beat. One that has
                # run out may be somebody else's, whom our beats would keep alive: it
                # is ours again when the message comes again.
                now = time.monotonic()
                young = now + CLAIM_SECONDS - _BEAT_SECONDS / 2
                for held in tuple(self._held.values()):
                    if now < held.latest.expires_at < young:
                        await held.in_progress()

    async def _hear_cancels(self) -> None:
        while True:
            with contextlib.suppress(MeshError):
                cancels = await self._bus.subscribe(subjects.ALL_CANCELS)
                try:
                    async for message in cancels:
                        self._runner.cancel(*subjects.parse(message.subject))
                finally:
                    await cancels.close()
            # What was missed stands in the logs, and is met there.
            await asyncio.sleep(_LISTEN_AGAIN_SECONDS)


def _message(delivery: Delivery) -> _Message:
    return delivery.stream, delivery.sequence
