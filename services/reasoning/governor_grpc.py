"""The cost governor over gRPC; calls made at the same time travel together."""

from collections.abc import Iterable, Sequence
from datetime import UTC
from typing import Final, cast

from google.protobuf.duration_pb2 import Duration

from agentmesh.common.v1 import batch_pb2, tier_pb2, usage_pb2
from agentmesh.governor.v1 import budget_pb2
from agentmesh.governor.v1 import cost_governor_service_pb2 as pb
from agentmesh.governor.v1.cost_governor_service_pb2_grpc import CostGovernorServiceStub
from meshkit import deadline, identity, trace
from meshkit.batch_stream import BatchStream
from meshkit.coalesce import Coalescer
from meshkit.errors import CorruptData, Internal, MeshError, from_status
from meshkit.identity import Identity
from services.reasoning.generation import Spending
from services.reasoning.governor import (
    Admission,
    Decision,
    LeaseGrant,
    LeaseWish,
    Settlement,
    Verdict,
)
from services.reasoning.model import Tier

_WHO: Final = "governor"
_DECISIONS: Final = {
    budget_pb2.DECISION_ALLOW: Decision.ALLOW,
    budget_pb2.DECISION_DEGRADE: Decision.DEGRADE,
    budget_pb2.DECISION_THROTTLE: Decision.THROTTLE,
    budget_pb2.DECISION_DENY: Decision.DENY,
}
_UNANSWERED: Final = Internal("The batch ended without this answer.")


class GrpcGovernor:
    """A Governor, and a Lessor, over CostGovernorService."""

    def __init__(
        self, stub: CostGovernorServiceStub, *, caller: str, timeout_seconds: float
    ) -> None:
        """`caller` is who this process is, such as `service:reasoning`."""
        self._stub: Final = stub
        self._caller: Final = caller
        self._timeout_seconds: Final = timeout_seconds
        admissions = BatchStream[pb.BatchAdmitItem](
            stub.BatchAdmitStream,
            pb.BatchAdmitStreamRequest,
            who=_WHO,
            timeout_seconds=timeout_seconds,
        )
        settlements = BatchStream[pb.BatchSettleItem](
            stub.BatchSettleStream,
            pb.BatchSettleStreamRequest,
            who=_WHO,
            timeout_seconds=timeout_seconds,
        )
        self._admissions: Final = Coalescer[pb.BatchAdmitItem, pb.AdmitResponse](admissions.send)
        self._settlements: Final = Coalescer[pb.BatchSettleItem, pb.SettleResponse](
            settlements.send, max_items=256
        )

    async def admit(self, admission: Admission) -> Verdict:
        """Whether the call may be made; reserves its cost where it may."""
        spending = admission.spending
        request = pb.AdmitRequest(
            parent=f"tenants/{spending.tenant}",
            key=spending.key,
            model=admission.model,
            tier=admission.tier.value,
            input_tokens=admission.input_tokens,
            max_output_tokens=admission.max_output_tokens,
            task_type=spending.task_type,
            agent=spending.agent,
            session=spending.session,
            task=spending.task,
            task_limit_micros=spending.task_limit_micros,
            task_spent_micros=spending.task_spent_micros,
            lane=cast(tier_pb2.Lane, spending.lane),
        )
        item = pb.BatchAdmitItem(context=self._context(spending), request=request)
        return _verdict(await self._admissions.call(item))

    async def settle(self, settlement: Settlement) -> int:
        """Charges what was used; answers the cost in micro-USD."""
        item = pb.BatchSettleItem(
            context=self._context(settlement.spending), request=_settle_request(settlement)
        )
        return (await self._settlements.call(item)).cost_micros

    async def settle_all(self, settlements: Sequence[Settlement]) -> Sequence[MeshError | None]:
        """Charges many in one message; answers in order, None for what is charged."""
        request = pb.BatchSettleRequest()
        timeout = _duration(self._timeout_seconds)
        for index, each in enumerate(settlements):
            item = request.items.add()
            context = item.context
            context.index, context.tenant, context.caller = (
                index, each.spending.tenant, self._caller,
            )  # fmt: skip
            context.timeout.CopyFrom(timeout)
            item.request.CopyFrom(_settle_request(each))
        outcomes: list[MeshError | None] = [_UNANSWERED] * len(settlements)
        with identity.use(identity.BATCH):
            async for some in self._stub.BatchSettle(request, timeout=self._timeout_seconds):
                for result in some.results:
                    failed = result.HasField("error")
                    outcomes[result.index] = from_status(result.error) if failed else None
        return outcomes

    async def release(self, spending: Spending) -> None:
        """Gives a reservation back unspent."""
        await self.trim(spending.tenant, spending.key, 0)

    async def lease(self, wish: LeaseWish) -> LeaseGrant:
        """Sets an amount aside, out of which calls are admitted here."""
        request = pb.AcquireLeaseRequest(
            parent=f"tenants/{wish.tenant}",
            lease=wish.lease,
            task_type=wish.task_type,
            agent=wish.agent,
            amount_micros=wish.micros,
        )
        with identity.use(Identity(wish.tenant, self._caller)):
            response = await self._stub.AcquireLease(request, timeout=self._timeout_seconds)
        return LeaseGrant(
            micros=response.reservation.reserved_micros,
            expires_at=response.reservation.expire_time.ToDatetime(UTC),
            price_version=response.price_version,
            retry_after_seconds=response.retry_after.ToNanoseconds() / 1e9,
            asks_for_sessions=response.admit_sessions,
            tiers=_tiers(response.allowed_tiers),
        )

    async def trim(self, tenant: str, lease: str, keep_micros: int) -> None:
        """Gives back what a lease, or a reservation, has beyond `keep_micros`."""
        request = pb.ReleaseRequest(parent=f"tenants/{tenant}", key=lease, keep_micros=keep_micros)
        with identity.use(Identity(tenant, self._caller)):
            await self._stub.Release(request, timeout=self._timeout_seconds)

    async def close(self) -> None:
        """Waits for what is on its way; calls that still wait get ShuttingDown."""
        await self._admissions.close()
        await self._settlements.close()

    def _context(self, spending: Spending) -> batch_pb2.ItemContext:
        span = trace.current()
        return batch_pb2.ItemContext(
            tenant=spending.tenant,
            caller=self._caller,
            timeout=_duration(deadline.timeout_for(self._timeout_seconds)),
            traceparent=span.traceparent if span else "",
        )


def _duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromNanoseconds(int(seconds * 1e9))
    return duration


def _settle_request(settlement: Settlement) -> pb.SettleRequest:
    spending = settlement.spending
    request = pb.SettleRequest(
        parent=f"tenants/{spending.tenant}",
        key=spending.key,
        model=settlement.model,
        usage=usage_pb2.Usage(
            input_tokens=settlement.input_tokens,
            output_tokens=settlement.output_tokens,
            cached_input_tokens=settlement.cached_input_tokens,
            model_calls=1,
        ),
        task_type=spending.task_type,
        agent=spending.agent,
        session=spending.session,
        task=spending.task,
        price_version=settlement.price_version,
        lease=settlement.lease,
        leased_micros=settlement.leased_micros,
        tier=settlement.tier.value if settlement.tier else tier_pb2.MODEL_TIER_UNSPECIFIED,
    )
    if settlement.call_time_ms:
        request.call_time.FromMilliseconds(settlement.call_time_ms)
    return request


def _tiers(values: Iterable[int]) -> frozenset[Tier]:
    try:
        return frozenset(map(Tier, values))
    except ValueError as error:
        # Left out, it would allow all tiers where it is the only one.
        raise CorruptData(f"The governor allows a tier that is none: {error}.") from error


def _verdict(response: pb.AdmitResponse) -> Verdict:
    decision = _DECISIONS.get(response.decision)
    if decision is None:
        raise CorruptData(f"The governor decided {response.decision}, which is no decision.")
    return Verdict(
        decision,
        key=response.reservation.key,
        reserved_micros=response.reservation.reserved_micros,
        degrade_to=Tier(response.degrade_to) if response.degrade_to else None,
        ask_again=decision is Decision.DEGRADE and not response.HasField("reservation"),
        retry_after_seconds=response.retry_after.ToNanoseconds() / 1e9,
        budget=response.budget,
        explanation=response.explanation,
        resets_at=response.resets_at.ToDatetime(UTC) if response.HasField("resets_at") else None,
        price_version=response.price_version,
    )
