"""Pulls runnable tasks from the lanes and keeps the claims on them alive."""

import asyncio
import contextlib
from typing import Final, Protocol

from agentmesh.common.v1 import tier_pb2
from meshkit.bus import Bus, ConsumerSpec, Delivery
from meshkit.errors import MeshError
from meshkit.log import Log
from services.executor.claim import Policies
from services.executor.held import Held
from tasklog import subjects
from tasklog.queues import CLAIM_SECONDS

# The broker hears three times within a claim that its owner is alive.
_BEATS_PER_CLAIM: Final = 3
# Unacknowledged messages of one lane over all executors.
_MAX_OUT: Final = 10_000
_FAULT_PAUSE_SECONDS: Final = 30.0
_LISTEN_AGAIN_SECONDS: Final = 1.0


class TaskRunner(Protocol):
    """Runs delivered tasks."""

    async def run(self, held: Held) -> None: ...
    def cancel(self, tenant: str, task_id: str) -> None: ...


class Worker:
    """The loops of one executor."""

    def __init__(self, *, bus: Bus, runner: TaskRunner, log: Log, policies: Policies) -> None:
        self._bus = bus
        self._runner = runner
        self._log = log
        self._policies = policies
        # By the message's sequence in the stream.
        self._held: dict[int, Held] = {}

    async def run(self) -> None:
        """Works until cancelled; then gives its tasks back to the lanes."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_claims())
            group.create_task(self._hear_cancels())
            for lane in subjects.LANES:
                if self._policies.current.lane(lane).workers:
                    group.create_task(self._work(lane))

    async def _work(self, lane: tier_pb2.Lane) -> None:
        name = subjects.LANES[lane]
        workers = self._policies.current.lane(lane).workers
        spec = ConsumerSpec(
            stream=subjects.STREAM,
            durable=f"lane-{name}",
            subject_filter=f"task.*.*.{name}-0",
            acknowledge_wait_seconds=CLAIM_SECONDS,
            max_acknowledge_pending=_MAX_OUT,
            description=f"Runnable tasks of the {name} lane.",
        )
        async with asyncio.TaskGroup() as tasks:
            async for delivery in self._bus.consume(spec, max_in_flight=workers):
                held = self._held.get(delivery.sequence)
                if held is None:
                    tasks.create_task(self._handle(delivery))
                else:
                    held.latest = delivery

    async def _handle(self, delivery: Delivery) -> None:
        held = self._held[delivery.sequence] = Held(delivery)
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
            del self._held[delivery.sequence]

    async def _postpone(self, held: Held, seconds: float) -> None:
        # Without a connection the claim runs out by itself.
        with contextlib.suppress(MeshError):
            await held.not_now(seconds)

    async def _keep_claims(self) -> None:
        while True:
            await asyncio.sleep(CLAIM_SECONDS / _BEATS_PER_CLAIM)
            with contextlib.suppress(MeshError):
                # While NATS is away beats would only fill its buffer.
                await self._bus.check()
                for held in tuple(self._held.values()):
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
