"""Test-only: a governor that decides as it is told and remembers what it was asked."""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from agentmesh.governor.v1 import budget_pb2
from agentmesh.governor.v1 import cost_governor_service_pb2 as pb
from agentmesh.governor.v1 import cost_governor_service_pb2_grpc as pb_grpc
from meshkit import identity
from meshkit.errors import MeshError, to_status

MICROS_PER_TOKEN: Final = 2
PRICE_VERSION: Final = "1"
ALLOW: Final = budget_pb2.DECISION_ALLOW
_Admit = Callable[[pb.AdmitRequest], pb.AdmitResponse]
_Check = Callable[[pb.SettleRequest], None]
_Grant = Callable[[pb.AcquireLeaseRequest], pb.AcquireLeaseResponse]


def allow(request: pb.AdmitRequest) -> pb.AdmitResponse:
    """Allows everything; the model `offline` is free."""
    tokens = 0 if request.model == "offline" else request.input_tokens + request.max_output_tokens
    return pb.AdmitResponse(
        decision=ALLOW,
        reservation=budget_pb2.Reservation(
            key=request.key, reserved_micros=tokens * MICROS_PER_TOKEN
        ),
    )


def take(request: pb.SettleRequest) -> None:
    """Takes every settlement."""


def grant_all(request: pb.AcquireLeaseRequest) -> pb.AcquireLeaseResponse:
    """Grants what is asked for, for ever, to all tiers and sessions."""
    expires = Timestamp()
    expires.FromJsonString("2100-01-01T00:00:00Z")
    return pb.AcquireLeaseResponse(
        reservation=budget_pb2.Reservation(
            key=request.lease, reserved_micros=request.amount_micros, expire_time=expires
        ),
        price_version=PRICE_VERSION,
    )


class ScriptedGovernor(pb_grpc.CostGovernorServiceServicer):
    """CostGovernorService in a few lines; only what reasoning calls."""

    def __init__(self, decide: _Admit = allow) -> None:
        self.decide = decide
        # While set, everything fails with it.
        self.failure: MeshError | None = None
        self.admitted: Final[list[pb.AdmitRequest]] = []
        # Raises what a settlement is refused with.
        self.check_settlement: _Check = take
        self.settled: Final[list[pb.SettleRequest]] = []
        self.released: Final[list[pb.ReleaseRequest]] = []
        # Answers AcquireLease; None grants nothing.
        self.grant: _Grant | None = None
        self.lease_requests: Final[list[pb.AcquireLeaseRequest]] = []
        self.tenants: Final[list[str]] = []

    async def BatchAdmitStream(
        self, request_iterator: AsyncIterator[pb.BatchAdmitStreamRequest], context: object
    ) -> AsyncIterator[pb.BatchAdmitStreamResponse]:
        """Decides on each item."""
        async for request in request_iterator:
            results: list[pb.BatchAdmitResult] = []
            for item in request.items:
                index = item.context.index
                self.admitted.append(item.request)
                self.tenants.append(item.context.tenant)
                try:
                    results.append(
                        pb.BatchAdmitResult(index=index, response=self._decide(item.request))
                    )
                except MeshError as error:
                    results.append(pb.BatchAdmitResult(index=index, error=to_status(error)))
            yield pb.BatchAdmitStreamResponse(results=results)

    async def BatchSettleStream(
        self, request_iterator: AsyncIterator[pb.BatchSettleStreamRequest], context: object
    ) -> AsyncIterator[pb.BatchSettleStreamResponse]:
        """Charges each item."""
        async for request in request_iterator:
            yield pb.BatchSettleStreamResponse(results=self._settle(request.items))

    async def BatchSettle(
        self, request: pb.BatchSettleRequest, context: object
    ) -> AsyncIterator[pb.BatchSettleResponse]:
        """Charges each item."""
        yield pb.BatchSettleResponse(results=self._settle(request.items))

    async def AcquireLease(
        self, request: pb.AcquireLeaseRequest, context: object
    ) -> pb.AcquireLeaseResponse:
        """Grants as it is told."""
        self.lease_requests.append(request)
        if self.failure is not None:
            raise self.failure
        return self.grant(request) if self.grant else pb.AcquireLeaseResponse()

    async def Release(self, request: pb.ReleaseRequest, context: object) -> pb.ReleaseResponse:
        """Remembers what was given back."""
        self.tenants.append(identity.current().tenant)
        self.released.append(request)
        return pb.ReleaseResponse()

    def _settle(self, items: Sequence[pb.BatchSettleItem]) -> list[pb.BatchSettleResult]:
        if self.failure is not None:
            raise self.failure
        results: list[pb.BatchSettleResult] = []
        for item in items:
            try:
                self.check_settlement(item.request)
            except MeshError as error:
                results.append(
                    pb.BatchSettleResult(index=item.context.index, error=to_status(error))
                )
                continue
            self.settled.append(item.request)
            usage = item.request.usage
            tokens = usage.input_tokens + usage.output_tokens
            cost = 0 if item.request.model == "offline" else tokens * MICROS_PER_TOKEN
            results.append(
                pb.BatchSettleResult(
                    index=item.context.index, response=pb.SettleResponse(cost_micros=cost)
                )
            )
        return results

    def _decide(self, request: pb.AdmitRequest) -> pb.AdmitResponse:
        if self.failure is not None:
            raise self.failure
        return self.decide(request)
