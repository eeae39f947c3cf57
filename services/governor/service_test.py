"""The governor behind a real gRPC server, on a real Redis."""

# Tables of cases have one case a line.
# ruff: noqa: E501

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, Final, cast

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from agentmesh.common.v1 import batch_pb2, usage_pb2
from agentmesh.governor.v1 import budget_pb2, usage_record_pb2
from agentmesh.governor.v1 import cost_governor_service_pb2 as pb
from agentmesh.governor.v1 import cost_governor_service_pb2_grpc as pb_grpc
from meshkit import errors, identity, redis_store
from meshkit.redis_line import RedisLine
from meshkit.server import Registration
from meshtest.clock import FakeClock
from meshtest.eventually import eventually
from meshtest.serving import serving
from services.governor.scripted_ledger import ScriptedLedger
from services.governor.service import CostGovernorService
from services.governor.service_calls import ACME, admit_request, dollar_service, settle_request
from services.governor.spenders import Spenders

pytest_plugins = ["services.governor.fixture_service"]


class _HeldLedger(ScriptedLedger):
    """Answers that something is stored when it may."""

    def __init__(self) -> None:
        super().__init__()
        self.stored = asyncio.Event()
        self.may_answer = asyncio.Event()

    async def append(self, records: Sequence[usage_record_pb2.UsageRecord]) -> int:
        place = await super().append(records)
        self.stored.set()
        await self.may_answer.wait()
        return place


def _changed(request: pb.SettleRequest, **fields: Any) -> pb.SettleRequest:
    request.MergeFrom(pb.SettleRequest(**fields))
    return request


async def test_call_is_admitted_settled_and_shown(stubs: list[Any]) -> None:
    """A reservation is answered, replaced by its settlement, and both are seen in GetSpend."""
    admitted = await stubs[0].Admit(admit_request("t/1/1"), timeout=30)
    assert admitted.decision == budget_pb2.DECISION_ALLOW
    assert (admitted.reservation.key, admitted.reservation.reserved_micros) == ("t/1/1", 18_000)
    expires = admitted.reservation.expire_time.ToDatetime(UTC)
    assert expires == datetime(2026, 1, 1, 0, 10, tzinfo=UTC)
    settle = settle_request(
        "t/1/1", input_tokens=1000, output_tokens=10, cached_input_tokens=500, cost_micros=7
    )
    assert await stubs[1].Settle(settle, timeout=30) == pb.SettleResponse(cost_micros=1800)
    assert await stubs[0].Settle(settle, timeout=30) == pb.SettleResponse(
        cost_micros=1800, repeated_settlement=True
    )
    spend = await stubs[0].GetSpend(pb.GetSpendRequest(parent=ACME), timeout=30)
    assert (spend.day.spent_micros, spend.day.reserved_micros) == (1800, 0)
    assert (spend.day.limit_micros, spend.month.limit_micros) == (1_000_000, 1_000_000)
    assert spend.day.resets_at.ToDatetime(UTC) == datetime(2026, 1, 2, tzinfo=UTC)
    assert spend.month.window_start.ToDatetime(UTC) == datetime(2026, 1, 1, tzinfo=UTC)
    assert spend.month.usage == usage_pb2.Usage(
        input_tokens=1000, output_tokens=10, cached_input_tokens=500, cost_micros=1800
    )


async def _only(request: Any) -> AsyncIterator[Any]:
    yield request


@pytest.mark.parametrize("in_stream", [False, True])
async def test_what_a_caller_that_is_gone_has_settled_is_counted(
    redis_url: str, clock: FakeClock, in_stream: bool
) -> None:
    """It is in the journal already, and nobody may be left to repeat it."""
    ledger = _HeldLedger()
    async with redis_store.connect(redis_url) as store, RedisLine(store) as line:
        service = dollar_service(line, clock, ledger)
        with identity.use(identity.Identity("acme", "service:test")):
            # From then on the counters are there, and are not begun with what the ledger has.
            await service.Admit(admit_request("b"), None)
            settle = settle_request("a", input_tokens=1000)
            if in_stream:
                context = batch_pb2.ItemContext(tenant="acme", timeout=Duration(seconds=30))
                item = pb.BatchSettleItem(context=context, request=settle)
                requests = _only(pb.BatchSettleStreamRequest(items=[item]))
                answer = anext(service.BatchSettleStream(requests, None))
            else:
                answer = service.Settle(settle, None)
            serving = asyncio.ensure_future(answer)
            await asyncio.wait_for(ledger.stored.wait(), 60)
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
            ledger.may_answer.set()

            async def counted() -> bool:
                spend = await service.GetSpend(pb.GetSpendRequest(parent=ACME), None)
                return spend.day.spent_micros == 3000

            await eventually(counted)


async def test_many_calls_on_the_last_dollar_over_two_servers(stubs: list[Any]) -> None:
    """However many ask at once, the dollar is reserved once, and the rest are told when to return."""
    answers = await asyncio.gather(
        *(stubs[n % 2].Admit(admit_request(f"t/{n}/1"), timeout=60) for n in range(200))
    )
    decisions = [answer.decision for answer in answers]
    assert decisions.count(budget_pb2.DECISION_ALLOW) == 1_000_000 // 18_000
    assert decisions.count(budget_pb2.DECISION_THROTTLE) == 200 - 1_000_000 // 18_000
    later = next(answer for answer in answers if answer.decision == budget_pb2.DECISION_THROTTLE)
    assert later.budget == "tenants/acme/budgets/tenant-month"
    assert later.retry_after.ToTimedelta() == timedelta(seconds=2)
    assert later.explanation == (
        "tenants/acme/budgets/tenant-month allows 1.00 USD; 0.00 USD are spent and 0.99 USD"
        " reserved, so that 0.018 USD more do not fit. There is room again when calls under way"
        " have ended."
    )
    spend = await stubs[0].GetSpend(pb.GetSpendRequest(parent=ACME), timeout=30)
    assert spend.day.reserved_micros == 990_000


async def test_lease_is_granted_spent_and_given_back(stubs: list[Any]) -> None:
    """Any governor knows it: what is settled under it takes its place, and the rest is free."""
    asked = pb.AcquireLeaseRequest(
        parent=ACME, lease="l1", task_type="chat", agent="helper", amount_micros=100_000
    )
    granted = await stubs[0].AcquireLease(asked, timeout=30)
    assert granted == await stubs[1].AcquireLease(asked, timeout=30)
    assert (granted.reservation.key, granted.reservation.reserved_micros) == ("l1", 100_000)
    assert granted.price_version
    assert not granted.HasField("retry_after")
    settle = settle_request("k1", input_tokens=1000)
    settle.lease, settle.leased_micros, settle.price_version = "l1", 3000, granted.price_version
    settle.call_time.FromDatetime(datetime(2026, 1, 1, tzinfo=UTC))
    assert (await stubs[1].Settle(settle, timeout=30)).cost_micros == 3000
    release = pb.ReleaseRequest(parent=ACME, key="l1", keep_micros=7000)
    assert (await stubs[0].Release(release, timeout=30)).released_micros == 90_000
    spend = await stubs[1].GetSpend(pb.GetSpendRequest(parent=ACME), timeout=30)
    assert (spend.day.spent_micros, spend.day.reserved_micros) == (3000, 7000)


async def test_nothing_is_leased_of_a_budget_that_is_nearly_spent(stubs: list[Any]) -> None:
    """Each call must be asked for, and the answer says when to ask for a lease again."""
    await stubs[0].Settle(settle_request("k", input_tokens=260_000), timeout=30)
    granted = await stubs[0].AcquireLease(
        pb.AcquireLeaseRequest(parent=ACME, lease="l1", amount_micros=900_000), timeout=30
    )
    assert granted.reservation.reserved_micros == 0
    assert granted.retry_after.ToSeconds() == 5


async def test_release_frees_a_reservation(stubs: list[Any]) -> None:
    """What is released is answered once."""
    await stubs[0].Admit(admit_request("a"), timeout=30)
    release = pb.ReleaseRequest(parent=ACME, key="a")
    assert (await stubs[0].Release(release, timeout=30)).released_micros == 18_000
    assert (await stubs[1].Release(release, timeout=30)).released_micros == 0


_MALFORMED: Final = [
    (admit_request("a", parent="acme"), "parent", None),
    (admit_request(""), "key", "must have 1 to 200 characters, not 0"),
    (admit_request("k" * 201), "key", "must have 1 to 200 characters, not 201"),
    (admit_request("a", model=""), "model", "must name the model that is called"),
    (admit_request("a", input_tokens=-1), "input_tokens", "must be from 0 to 1000000000, not -1"),
    (admit_request("a", max_output_tokens=2**40), "max_output_tokens", "must be from 0 to 1000000000, not 1099511627776"),
    (admit_request("a", task_limit_micros=-1), "task_limit_micros", "must be from 0 to 9000000000000000, not -1"),
    (admit_request("a", task_spent_micros=-1), "task_spent_micros", "must be from 0 to 9000000000000000, not -1"),
    (admit_request("a", task_limit_micros=5), "task", "must name the task whose cap `task_limit_micros` is"),
    (admit_request("a", tier=9), "tier", "must be FAST, BALANCED, POWERFUL or unset"),
    (admit_request("a", task_type="a b"), "task_type", "must have at most 200 characters, no blank and no control character"),
    (admit_request("a", agent="a" * 201), "agent", "must have at most 200 characters, no blank and no control character"),
    (admit_request("a", session="a\nb"), "session", "must have at most 200 characters, no blank and no control character"),
    (admit_request("a", session="a\0b"), "session", "must have at most 200 characters, no blank and no control character"),
    (settle_request("a\0b"), "key", "must have no control character"),
    (settle_request("a\x9fb"), "key", "must have no control character"),
    (admit_request("a", task="a b"), "task", "must be a task's id or name, not 'a b'"),
    (settle_request("a", output_tokens=-1), "usage.output_tokens", "must be from 0 to 1000000000, not -1"),
    (settle_request("a", input_tokens=5, cached_input_tokens=6), "usage.cached_input_tokens", "must be from 0 to 5, not 6"),
    (settle_request("a", model_calls=-1), "usage.model_calls", "must be from 0 to 1000000, not -1"),
    (_changed(settle_request("a"), leased_micros=-1, lease="l"), "leased_micros", "must be from 0 to 9000000000000000, not -1"),
    (_changed(settle_request("a"), leased_micros=1), "lease", "must name the lease that `leased_micros` were taken of"),
    (_changed(settle_request("a"), call_time=Timestamp(seconds=-(2**60))), "call_time", "must be a time from the year 1 to 9999"),
    (_changed(settle_request("a"), price_version="nobody"), "price_version", None),
    (pb.AcquireLeaseRequest(parent=ACME, lease="l"), "amount_micros", "must be from 1 to 9000000000000000, not 0"),
    (pb.AcquireLeaseRequest(parent=ACME, lease="l", amount_micros=2**63 - 1), "amount_micros", "must be from 1 to 9000000000000000, not 9223372036854775807"),
    (pb.AcquireLeaseRequest(parent=ACME, amount_micros=1), "lease", "must have 1 to 200 characters, not 0"),
    (pb.ReleaseRequest(parent=ACME, key="l", keep_micros=-1), "keep_micros", "must be from 0 to 9000000000000000, not -1"),
]  # fmt: skip


async def test_wrong_field_is_named(stubs: list[Any]) -> None:
    """What is malformed is INVALID_FIELD with the field's path and what would be right."""
    for request, field, description in _MALFORMED:
        method = getattr(stubs[0], type(request).__name__.removesuffix("Request"))
        with pytest.raises(errors.InvalidField) as caught:
            await method(request, timeout=30)
        (violation,) = caught.value.violations
        told = (violation.field, violation.description)
        assert told == (field, description or violation.description), request


@pytest.fixture
async def eve(request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    """A stub of somebody who is no service, and the callers that may spend besides services."""
    nobody = cast(Any, SimpleNamespace(admit=None))
    registration = Registration(
        service_name="agentmesh.governor.v1.CostGovernorService",
        add=pb_grpc.add_CostGovernorServiceServicer_to_server,
        servicer=CostGovernorService(
            *(nobody, nobody, nobody, nobody, nobody),
            alerts=nobody,
            spending=nobody,
            spenders=Spenders(request.param),
            unbroken=nobody,
        ),
    )
    async with serving([registration], caller="user:eve") as channels:
        with identity.use(identity.Identity("acme", "user:eve")):
            yield pb_grpc.CostGovernorServiceStub(channels.get("governor"))


@pytest.mark.parametrize("eve", [()], indirect=True)
async def test_only_services_spend(eve: Any) -> None:
    """Who is no service is refused whatever would reserve, charge or give back, one by one and in
    batches."""
    calls = (
        lambda: eve.Admit(admit_request("a"), timeout=30),
        lambda: eve.Settle(settle_request("a"), timeout=30),
        lambda: eve.Release(pb.ReleaseRequest(parent=ACME, key="a"), timeout=30),
        lambda: eve.AcquireLease(
            pb.AcquireLeaseRequest(parent=ACME, lease="l", amount_micros=1), timeout=30
        ),
        lambda: _all(eve.BatchAdmit(pb.BatchAdmitRequest(), timeout=30)),
        lambda: _all(eve.BatchSettle(pb.BatchSettleRequest(), timeout=30)),
        lambda: _all(eve.BatchAdmitStream(_once(pb.BatchAdmitStreamRequest()), timeout=30)),
        lambda: _all(eve.BatchSettleStream(_once(pb.BatchSettleStreamRequest()), timeout=30)),
    )
    for call in calls:
        with pytest.raises(errors.Forbidden) as caught:
            await call()
        assert caught.value.message == (
            "user:eve is no service, and only services may admit and settle model calls."
        )


@pytest.mark.parametrize("eve", [["user:eve"]], indirect=True)
async def test_settings_name_others_that_may_spend(eve: Any) -> None:
    """They are asked what everybody is."""
    with pytest.raises(errors.InvalidField):
        await eve.Release(pb.ReleaseRequest(parent=ACME), timeout=30)


async def _all(stream: Any) -> list[Any]:
    return [each async for each in stream]


async def _once(message: Any) -> AsyncIterator[Any]:
    yield message


async def test_tenant_of_another_is_forbidden(stubs: list[Any]) -> None:
    """Nobody reserves, settles or looks in the name of a tenant that is not theirs."""
    for call in (
        stubs[0].Admit(admit_request("a", parent="tenants/other"), timeout=30),
        stubs[0].Release(pb.ReleaseRequest(parent="tenants/other", key="a"), timeout=30),
        stubs[0].AcquireLease(
            pb.AcquireLeaseRequest(parent="tenants/other", lease="l", amount_micros=1), timeout=30
        ),
        stubs[0].GetSpend(pb.GetSpendRequest(parent="tenants/other"), timeout=30),
    ):
        with pytest.raises(errors.Forbidden):
            await call
