"""The CostGovernorService of the contract."""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import aclosing
from typing import Any, Final, TypeVar

from google.protobuf.message import Message
from google.rpc import status_pb2

from agentmesh.governor.v1 import cost_governor_service_pb2 as pb
from agentmesh.governor.v1 import cost_governor_service_pb2_grpc as pb_grpc
from meshkit.errors import MeshError
from meshkit.unbroken import Unbroken
from services.governor import convert, convert_budget
from services.governor.admission import Admission
from services.governor.alert_service import AlertService
from services.governor.batch import answer_all, answer_one
from services.governor.budget_service import BudgetService
from services.governor.calls import MadeCall, Settlement
from services.governor.leasing import Leasing
from services.governor.settling import Settling
from services.governor.spend_service import SpendService
from services.governor.spenders import Spenders
from services.governor.standings import Standings
from services.governor.together import Together

Batch = TypeVar(
    "Batch",
    pb.BatchAdmitResponse,
    pb.BatchAdmitStreamResponse,
    pb.BatchSettleResponse,
    pb.BatchSettleStreamResponse,
)


class CostGovernorService(pb_grpc.CostGovernorServiceServicer):
    """Decodes, asks the governor, encodes."""

    def __init__(
        self,
        admission: Admission,
        leasing: Leasing,
        settling: Settling,
        standings: Standings,
        budgets: BudgetService,
        *,
        alerts: AlertService,
        spending: SpendService,
        spenders: Spenders,
        unbroken: Unbroken,
    ) -> None:
        """`spenders`: who may admit, settle, release and lease."""
        self._admission: Final = admission
        self._admit_together: Final = Together(admission.admit)
        self._leasing: Final = leasing
        self._settling: Final = settling
        self._standings: Final = standings
        self._budgets: Final = budgets
        self._spending: Final = spending
        self._alerts: Final = alerts
        self._spenders: Final = spenders
        self._unbroken: Final = unbroken

    async def Admit(self, request: pb.AdmitRequest, context: object) -> pb.AdmitResponse:
        """Reserves what a call may cost, or says why not."""
        self._spenders.require_caller()
        return await answer_one(
            request, convert.planned_call, self._admit_together, convert.admit_response
        )

    async def BatchAdmit(
        self, request: pb.BatchAdmitRequest, context: object
    ) -> AsyncIterator[pb.BatchAdmitResponse]:
        """Admit for many calls, answered in one message."""
        self._spenders.require_caller()
        yield await self._admit(request.items, pb.BatchAdmitResponse())

    async def BatchAdmitStream(
        self, request_iterator: AsyncIterator[pb.BatchAdmitStreamRequest], context: object
    ) -> AsyncIterator[pb.BatchAdmitStreamResponse]:
        """BatchAdmit for one batch after the other: none is long under way."""
        self._spenders.require_caller()
        async for request in request_iterator:
            yield await self._admit(request.items, pb.BatchAdmitStreamResponse())

    async def Settle(self, request: pb.SettleRequest, context: object) -> pb.SettleResponse:
        """Charges what a call used."""
        self._spenders.require_caller()
        return await answer_one(request, convert.made_call, self._charge, convert.settle_response)

    async def BatchSettle(
        self, request: pb.BatchSettleRequest, context: object
    ) -> AsyncIterator[pb.BatchSettleResponse]:
        """Settle for many calls, answered in one message."""
        self._spenders.require_caller()
        yield await self._settle(request.items, pb.BatchSettleResponse())

    async def BatchSettleStream(
        self, request_iterator: AsyncIterator[pb.BatchSettleStreamRequest], context: object
    ) -> AsyncIterator[pb.BatchSettleStreamResponse]:
        """BatchSettle for one batch after the other: none is long under way."""
        self._spenders.require_caller()
        async for request in request_iterator:
            yield await self._settle(request.items, pb.BatchSettleStreamResponse())

    async def Release(self, request: pb.ReleaseRequest, context: object) -> pb.ReleaseResponse:
        """Gives a reservation back."""
        self._spenders.require_caller()
        tenant, key = convert.tenant(request.parent), convert.reservation_key(request.key)
        keep_micros = convert.kept_micros(request)
        released = await self._leasing.release(tenant, key, keep_micros)
        return pb.ReleaseResponse(released_micros=released)

    async def AcquireLease(
        self, request: pb.AcquireLeaseRequest, context: object
    ) -> pb.AcquireLeaseResponse:
        """Sets an amount aside, out of which the caller admits calls by itself."""
        self._spenders.require_caller()
        return convert.lease_response(await self._leasing.lease(convert.wanted_lease(request)))

    async def SetBudget(
        self, request: pb.SetBudgetRequest, context: object
    ) -> pb.SetBudgetResponse:
        """Puts a budget in force."""
        return await self._budgets.set(request)

    async def GetBudget(
        self, request: pb.GetBudgetRequest, context: object
    ) -> pb.GetBudgetResponse:
        """A budget and where it stands."""
        return await self._budgets.get(request)

    async def DeleteBudget(
        self, request: pb.DeleteBudgetRequest, context: object
    ) -> pb.DeleteBudgetResponse:
        """Takes a budget out of force."""
        return await self._budgets.delete(request)

    async def ListBudgets(
        self, request: pb.ListBudgetsRequest, context: object
    ) -> pb.ListBudgetsResponse:
        """A tenant's budgets."""
        return await self._budgets.list(request)

    async def ExplainBudget(
        self, request: pb.ExplainBudgetRequest, context: object
    ) -> pb.ExplainBudgetResponse:
        """Which budgets a call falls under, and which one decides."""
        return await self._budgets.explain(request)

    async def GetSpend(self, request: pb.GetSpendRequest, context: object) -> pb.GetSpendResponse:
        """What a tenant spent today and this month."""
        day, month = await self._standings.spend(convert.tenant(request.parent))
        return pb.GetSpendResponse(
            day=convert_budget.spend_window(day), month=convert_budget.spend_window(month)
        )

    async def WatchAlerts(
        self, request: pb.WatchAlertsRequest, context: object
    ) -> AsyncIterator[pb.WatchAlertsResponse]:
        """Alerts of the past, and those that come."""
        async with aclosing(self._alerts.watch(request)) as alerts:
            async for alert in alerts:
                yield alert

    async def QuerySpend(
        self, request: pb.QuerySpendRequest, context: object
    ) -> pb.QuerySpendResponse:
        """Spending by group."""
        return await self._spending.query(request)

    async def ProjectSpend(
        self, request: pb.ProjectSpendRequest, context: object
    ) -> pb.ProjectSpendResponse:
        """What the present day and month will have cost."""
        return await self._spending.project(request)

    async def ExportSpend(
        self, request: pb.ExportSpendRequest, context: object
    ) -> AsyncIterator[pb.ExportSpendResponse]:
        """The charges of a time as a file."""
        async with aclosing(self._spending.export(request)) as parts:
            async for part in parts:
                yield part

    async def GetTaskProfile(
        self, request: pb.GetTaskProfileRequest, context: object
    ) -> pb.GetTaskProfileResponse:
        """What a task type used so far."""
        return await self._spending.profile(request)

    async def ListTaskProfiles(
        self, request: pb.ListTaskProfilesRequest, context: object
    ) -> pb.ListTaskProfilesResponse:
        """What the tenant's task types used so far."""
        return await self._spending.profiles(request)

    async def ForecastCapacity(
        self, request: pb.ForecastCapacityRequest, context: object
    ) -> pb.ForecastCapacityResponse:
        """What a load would cost and need."""
        return await self._spending.capacity(request)

    async def _admit(self, items: Sequence[pb.BatchAdmitItem], batch: Batch) -> Batch:
        answers = await answer_all(
            items, convert.planned_call, self._admission.admit, convert.admit_response
        )
        return _filled(batch, answers)

    async def _charge(self, calls: Sequence[MadeCall]) -> Sequence[Settlement | MeshError]:
        # A caller that dies must not leave in the journal what no counter has: nobody may
        # be there to repeat it.
        return await self._unbroken.run(self._settling.settle(calls))

    async def _settle(self, items: Sequence[pb.BatchSettleItem], batch: Batch) -> Batch:
        answers = await answer_all(items, convert.made_call, self._charge, convert.settle_response)
        return _filled(batch, answers)


def _filled(batch: Batch, answers: Iterable[tuple[int, Message]]) -> Batch:
    """`batch` with a result for each answer, or error, by the index of its item."""
    # Made in their place: what is put into a message is copied, each time it is.
    results: Any = batch.results
    for index, answer in answers:
        result = results.add(index=index)
        place = result.error if isinstance(answer, status_pb2.Status) else result.response
        place.CopyFrom(answer)
    return batch
