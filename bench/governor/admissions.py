"""Admissions at a steady rate: each is asked for when it is due, whatever the others do."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from google.protobuf.duration_pb2 import Duration

from agentmesh.common.v1 import batch_pb2, tier_pb2, usage_pb2
from agentmesh.governor.v1 import budget_pb2
from agentmesh.governor.v1 import cost_governor_service_pb2 as pb
from agentmesh.governor.v1.cost_governor_service_pb2_grpc import CostGovernorServiceStub
from bench.tasks.latencies import Latencies
from meshkit import identity
from meshkit.client import Channels
from meshkit.errors import MeshError, from_status
from meshkit.identity import Identity

TENANT: Final = "bench"
_PARENT: Final = f"tenants/{TENANT}"
_WHO: Final = Identity(TENANT, "user:bench")
_CALL_SECONDS: Final = 5.0
# Settlements are sent as reasoning sends those that nobody waits for.
_SETTLE_EVERY_SECONDS: Final = 0.1
_MOST_TOGETHER: Final = 256
_MODEL: Final = "stub"
_TASK_TYPE: Final = "bench"
_INPUT_TOKENS: Final = 300
_OUTPUT_TOKENS: Final = 100


@dataclass(frozen=True, slots=True)
class Asked:
    """What came of a time of asking."""

    latencies: Latencies = field(default_factory=Latencies)
    # By their reason; `REFUSED` where the governor did not allow a call.
    errors: Counter[str] = field(default_factory=Counter[str])


async def ask(
    address: str,
    *,
    rate: float,
    seconds: float,
    warm_up_seconds: float,
    seed: int,
    mark: Callable[[], None],
) -> Asked:
    """Admits `rate` calls a second through the gateway at `address`, and settles them.

    A latency counts from when the call was due, so that nothing is left out where a
    call could not be made in time. `mark` is called when the warm-up ends, and at the
    end.
    """
    asked = Asked()
    async with Channels({"governor": address}, caller=_WHO.caller) as channels:
        with identity.use(_WHO):
            asker = _Asker(CostGovernorServiceStub(channels.get("governor")), asked)
            settling = asyncio.create_task(asker.settle())
            try:
                await asker.admit(rate, warm_up_seconds, seed, Latencies())
                mark()
                await asker.admit(rate, seconds, seed + 1, asked.latencies)
                mark()
            finally:
                settling.cancel()
    return asked


class _Asker:
    """Somebody who makes calls of a model."""

    def __init__(self, governor: CostGovernorServiceStub, asked: Asked) -> None:
        self._governor: Final = governor
        self._asked: Final = asked
        self._due: list[pb.SettleRequest] = []

    async def admit(self, rate: float, seconds: float, seed: int, into: Latencies) -> None:
        """Asks at random distances; returns when all is answered."""
        chance = random.Random(seed)
        due = time.perf_counter()
        end = due + seconds
        number = 0
        async with asyncio.TaskGroup() as calls:
            while (due := due + chance.expovariate(rate)) < end:
                await asyncio.sleep(due - time.perf_counter())
                number += 1
                calls.create_task(self._admit(f"{seed}-{number}", due, into))

    async def _admit(self, key: str, due: float, into: Latencies) -> None:
        try:
            answer = await self._governor.Admit(
                pb.AdmitRequest(
                    parent=_PARENT,
                    key=key,
                    model=_MODEL,
                    tier=tier_pb2.MODEL_TIER_FAST,
                    input_tokens=_INPUT_TOKENS,
                    max_output_tokens=_OUTPUT_TOKENS,
                    task_type=_TASK_TYPE,
                ),
                timeout=_CALL_SECONDS,
            )
        except MeshError as error:
            self._asked.errors[error.reason] += 1
            return
        into.record(time.perf_counter() - due)
        if answer.decision != budget_pb2.DECISION_ALLOW:
            self._asked.errors["REFUSED"] += 1
            return
        settlement = pb.SettleRequest(
            parent=_PARENT,
            key=answer.reservation.key or key,
            model=_MODEL,
            tier=tier_pb2.MODEL_TIER_FAST,
            usage=usage_pb2.Usage(
                input_tokens=_INPUT_TOKENS, output_tokens=_OUTPUT_TOKENS, model_calls=1
            ),
            task_type=_TASK_TYPE,
            price_version=answer.price_version,
        )
        settlement.call_time.GetCurrentTime()
        self._due.append(settlement)

    async def settle(self) -> None:
        """Settles what was admitted, together, until cancelled."""
        while True:
            await asyncio.sleep(_SETTLE_EVERY_SECONDS)
            while self._due:
                some, self._due = self._due[:_MOST_TOGETHER], self._due[_MOST_TOGETHER:]
                await self._settle(some)

    async def _settle(self, some: list[pb.SettleRequest]) -> None:
        items = [
            pb.BatchSettleItem(
                context=batch_pb2.ItemContext(
                    index=index, tenant=TENANT, timeout=Duration(seconds=int(_CALL_SECONDS))
                ),
                request=request,
            )
            for index, request in enumerate(some)
        ]
        try:
            async for answers in self._governor.BatchSettle(
                pb.BatchSettleRequest(items=items), timeout=_CALL_SECONDS
            ):
                for each in answers.results:
                    if each.HasField("error"):
                        self._asked.errors[from_status(each.error).reason] += 1
        except MeshError as error:
            self._asked.errors[error.reason] += len(some)
