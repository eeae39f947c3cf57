"""Admissions at a steady rate: each is asked for when it is due, whatever the others do."""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from google.protobuf.duration_pb2 import Duration

from agentmesh.common.v1 import batch_pb2, tier_pb2, usage_pb2
from agentmesh.governor.v1 import budget_pb2
from agentmesh.governor.v1 import cost_governor_service_pb2 as pb
from agentmesh.governor.v1.cost_governor_service_pb2_grpc import CostGovernorServiceStub
from bench.gateway.grpc_batches import GrpcBatches
from bench.gateway.grpc_calls import GrpcCalls
from bench.gateway.http_calls import CallFailed
from bench.governor.asking import Asking
from bench.governor.metronome import Metronome, at_random
from bench.tasks.latencies import Latencies
from meshkit import identity
from meshkit.client import Channels
from meshkit.constants import CALLER_KEY, TENANT_KEY
from meshkit.errors import MeshError, from_status
from meshkit.identity import Identity

TENANT: Final = "bench"
_PARENT: Final = f"tenants/{TENANT}"
_WHO: Final = Identity(TENANT, "user:bench")
_SERVICE: Final = "/agentmesh.governor.v1.CostGovernorService"
_CALL_SECONDS: Final = 5
_HEADERS: Final = {
    TENANT_KEY: TENANT,
    CALLER_KEY: _WHO.caller,
    "grpc-timeout": f"{_CALL_SECONDS}S",
}
# Settlements are sent as reasoning sends those that nobody waits for.
_SETTLE_EVERY_SECONDS: Final = 0.1
_MOST_TOGETHER: Final = 256
_MODEL: Final = "stub"
_TASK_TYPE: Final = "bench"
_INPUT_TOKENS: Final = 300
_OUTPUT_TOKENS: Final = 100

# Asks whether a call may be made. Raises CallFailed.
_Admit = Callable[[pb.AdmitRequest], Awaitable[pb.AdmitResponse]]


@dataclass(frozen=True, slots=True)
class Seen:
    """What came of a time of asking."""

    # From when calls were due to their answers.
    latencies: Latencies = field(default_factory=Latencies)
    # From when they were due to when this process began them, which is its own fault.
    late: Latencies = field(default_factory=Latencies)


async def ask(asking: Asking, mark: Callable[[], None]) -> tuple[Seen, Counter[str]]:
    """Admits calls through the gateway, and settles them; also errors by their reason.

    A latency counts from when the call was due, so that nothing is left out where a
    call could not be made in time. `mark` is called when the warm-up ends, and at the
    end.

    Calls are made by a client that takes little of the machine, which gRPC's own would
    take as much of as the governor does; the few batches that settle them are gRPC's.
    """
    calls = GrpcCalls(asking.address, _HEADERS)
    async with Channels({"governor": asking.address}, caller=_WHO.caller) as channels:
        with identity.use(_WHO):
            admit = _on_streams(calls) if asking.streamed else _by_itself(calls)
            asker = _Asker(admit, CostGovernorServiceStub(channels.get("governor")))
            settling = asyncio.create_task(asker.settle())
            try:
                await asker.admit(asking.rate, asking.warm_up_seconds, asking.seed)
                mark()
                seen = await asker.admit(asking.rate, asking.seconds, asking.seed + 1)
                mark()
            finally:
                settling.cancel()
                calls.close()
    return seen, asker.errors


def _by_itself(calls: GrpcCalls) -> _Admit:
    async def admit(request: pb.AdmitRequest) -> pb.AdmitResponse:
        messages: list[bytes] = []
        await calls.ask(f"{_SERVICE}/Admit", request.SerializeToString(), messages.append)
        if not messages:
            raise CallFailed("was answered with an error")
        return pb.AdmitResponse.FromString(messages[0])

    return admit


def _on_streams(calls: GrpcCalls) -> _Admit:
    batches = GrpcBatches(
        calls,
        f"{_SERVICE}/BatchAdmitStream",
        request=pb.BatchAdmitStreamRequest,
        response=pb.BatchAdmitStreamResponse.FromString,
    )

    async def admit(request: pb.AdmitRequest) -> pb.AdmitResponse:
        context = batch_pb2.ItemContext(tenant=TENANT, timeout=Duration(seconds=_CALL_SECONDS))
        return await batches.ask(pb.BatchAdmitItem(context=context, request=request))

    return admit


class _Asker:
    """Somebody who makes calls of a model."""

    def __init__(self, ask: _Admit, governor: CostGovernorServiceStub) -> None:
        self._ask: Final = ask
        self._governor: Final = governor
        # By their reason; see `Asked`.
        self.errors: Final = Counter[str]()
        self._due: list[pb.SettleRequest] = []

    async def admit(self, rate: float, seconds: float, seed: int) -> Seen:
        """Asks at random distances; returns when all is answered."""
        seen, numbers = Seen(), itertools.count(1)
        async with asyncio.TaskGroup() as calls:

            def begin(due: float) -> None:
                calls.create_task(self._admit(f"{seed}-{next(numbers)}", due, seen))

            await Metronome(begin).run(at_random(rate, seconds, seed))
        return seen

    async def _admit(self, key: str, due: float, seen: Seen) -> None:
        seen.late.record(time.perf_counter() - due)
        request = pb.AdmitRequest(
            parent=_PARENT,
            key=key,
            model=_MODEL,
            tier=tier_pb2.MODEL_TIER_FAST,
            input_tokens=_INPUT_TOKENS,
            max_output_tokens=_OUTPUT_TOKENS,
            task_type=_TASK_TYPE,
        )
        try:
            answer = await self._ask(request)
        except CallFailed as error:
            self.errors[str(error)] += 1
            return
        seen.latencies.record(time.perf_counter() - due)
        if answer.decision != budget_pb2.DECISION_ALLOW:
            self.errors["REFUSED"] += 1
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
                    index=index, tenant=TENANT, timeout=Duration(seconds=_CALL_SECONDS)
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
                        self.errors[from_status(each.error).reason] += 1
        except MeshError as error:
            self.errors[error.reason] += len(some)
