"""The governor behind a real gRPC server, on a real Redis."""

# Tables of cases have one case a line.
# ruff: noqa: E501

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
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
from meshkit.constants import BATCH_TENANT
from meshkit.redis_line import RedisLine
from meshkit.server import Registration
from meshkit.unbroken import Unbroken
from meshtest.clock import FakeClock
from meshtest.eventually import eventually
from meshtest.redis_server import RedisServer
from meshtest.serving import serving
from services.governor.governor_parts import Defaults, governor_parts
from services.governor.price_file import load_prices
from services.governor.scripted_ledger import ScriptedLedger
from services.governor.service import CostGovernorService
from services.governor.spenders import Spenders

pytest_plugins = ["meshtest.fixtures"]

_NO_SPENDING: Any = None
_PRICES = Path(__file__).with_name("prices.yaml")
# A day and a month of one dollar.
_DOLLAR = Defaults(1_000_000, 1_000_000)
_ACME = "tenants/acme"
# They have tests of their own.
_NO_BUDGET_CALLS = _NO_ALERTS = cast(Any, None)


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


def _service(line: RedisLine, clock: FakeClock, ledger: ScriptedLedger) -> CostGovernorService:
    parts = governor_parts(line, clock, ledger, _DOLLAR, prices=load_prices(_PRICES))
    return CostGovernorService(
        parts.admission,
        parts.leasing,
        parts.settling,
        parts.standings,
        _NO_BUDGET_CALLS,
        alerts=_NO_ALERTS,
        spending=_NO_SPENDING,
        spenders=Spenders(),
        unbroken=Unbroken(),
    )


@pytest.fixture
async def redis_url(shared_redis: RedisServer) -> str:
    """An empty Redis."""
    async with redis_store.connect(shared_redis.url) as connection:
        await cast(Any, connection).flushall()
    return shared_redis.url


@pytest.fixture
async def stubs(redis_url: str, clock: FakeClock) -> AsyncIterator[list[Any]]:
    """Two governors, each a server of its own, on one Redis; called for the tenant acme."""
    ledger = ScriptedLedger()
    async with AsyncExitStack() as stack:
        stubs: list[Any] = []
        for _ in range(2):
            store = await stack.enter_async_context(redis_store.connect(redis_url))
            line = await stack.enter_async_context(RedisLine(store))
            registration = Registration(
                service_name="agentmesh.governor.v1.CostGovernorService",
                add=pb_grpc.add_CostGovernorServiceServicer_to_server,
                servicer=_service(line, clock, ledger),
            )
            channels = await stack.enter_async_context(serving([registration]))
            stubs.append(pb_grpc.CostGovernorServiceStub(channels.get("governor")))
        with identity.use(identity.Identity("acme", "service:test")):
            yield stubs


def _admit(key: str, **more: Any) -> pb.AdmitRequest:
    # 1,000 tokens each way of this model are 0.018 dollars.
    fields: dict[str, Any] = {
        "parent": _ACME,
        "key": key,
        "model": "claude-sonnet-4-5",
        "input_tokens": 1000,
        "max_output_tokens": 1000,
    }
    return pb.AdmitRequest(**(fields | more))


def _settle(key: str, **usage: int) -> pb.SettleRequest:
    return pb.SettleRequest(
        parent=_ACME, key=key, model="claude-sonnet-4-5", usage=usage_pb2.Usage(**usage)
    )


def _changed(request: pb.SettleRequest, **fields: Any) -> pb.SettleRequest:
    request.MergeFrom(pb.SettleRequest(**fields))
    return request


async def test_call_is_admitted_settled_and_shown(stubs: list[Any]) -> None:
    """A reservation is answered, replaced by its settlement, and both are seen in GetSpend."""
    admitted = await stubs[0].Admit(_admit("t/1/1"), timeout=30)
    assert admitted.decision == budget_pb2.DECISION_ALLOW
    assert (admitted.reservation.key, admitted.reservation.reserved_micros) == ("t/1/1", 18_000)
    expires = admitted.reservation.expire_time.ToDatetime(UTC)
    assert expires == datetime(2026, 1, 1, 0, 10, tzinfo=UTC)
    settle = _settle(
        "t/1/1", input_tokens=1000, output_tokens=10, cached_input_tokens=500, cost_micros=7
    )
    assert await stubs[1].Settle(settle, timeout=30) == pb.SettleResponse(cost_micros=1800)
    assert await stubs[0].Settle(settle, timeout=30) == pb.SettleResponse(
        cost_micros=1800, repeated_settlement=True
    )
    spend = await stubs[0].GetSpend(pb.GetSpendRequest(parent=_ACME), timeout=30)
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
        service = _service(line, clock, ledger)
        with identity.use(identity.Identity("acme", "service:test")):
            # From then on the counters are there, and are not begun with what the ledger has.
            await service.Admit(_admit("b"), None)
            settle = _settle("a", input_tokens=1000)
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
                spend = await service.GetSpend(pb.GetSpendRequest(parent=_ACME), None)
                return spend.day.spent_micros == 3000

            await eventually(counted)


async def test_many_calls_on_the_last_dollar_over_two_servers(stubs: list[Any]) -> None:
    """However many ask at once, the dollar is reserved once, and the rest are told when to return."""
    answers = await asyncio.gather(
        *(stubs[n % 2].Admit(_admit(f"t/{n}/1"), timeout=60) for n in range(200))
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
    spend = await stubs[0].GetSpend(pb.GetSpendRequest(parent=_ACME), timeout=30)
    assert spend.day.reserved_micros == 990_000


async def test_batch_answers_each_item_by_its_index(stubs: list[Any]) -> None:
    """Items of several tenants travel together; each has its own answer or its own error."""
    batch = pb.BatchAdmitRequest()
    for index, (tenant, request) in enumerate(
        [
            ("acme", _admit("a")),
            ("other", _admit("a", parent="tenants/other")),
            ("other", _admit("b")),
            ("acme", _admit("c", model="nobody")),
        ]
    ):
        item = batch.items.add(request=request)
        item.context.index, item.context.tenant = 10 + index, tenant
        item.context.timeout.seconds = 30
    with identity.use(identity.Identity(BATCH_TENANT, "service:test")):
        results = [
            result
            async for response in stubs[0].BatchAdmit(batch, timeout=30)
            for result in response.results
        ]
    by_index = {result.index: result for result in results}
    assert len(results) == 4
    assert by_index[10].response.reservation.reserved_micros == 18_000
    assert by_index[11].response.reservation.reserved_micros == 18_000
    forbidden, unpriced = (errors.from_status(by_index[n].error) for n in (12, 13))
    assert (forbidden.reason, unpriced.reason) == ("FORBIDDEN", "NO_PRICE")

    settling = pb.BatchSettleRequest()
    for index, request in enumerate([_settle("a", input_tokens=1000), _settle("")]):
        item = settling.items.add(request=request)
        item.context.index, item.context.tenant = index, "acme"
        item.context.timeout.seconds = 30
    settled = [
        (result.index, result.WhichOneof("outcome"))
        async for response in stubs[1].BatchSettle(settling, timeout=30)
        for result in response.results
    ]
    assert sorted(settled) == [(0, "response"), (1, "error")]
    spend = await stubs[0].GetSpend(pb.GetSpendRequest(parent=_ACME), timeout=30)
    assert (spend.day.spent_micros, spend.day.reserved_micros) == (3000, 0)


async def test_batches_that_follow_each_other_on_a_stream_are_answered_one_by_one(
    stubs: list[Any],
) -> None:
    """Admissions and settlements, each batch in a message of its own."""

    async def admissions() -> AsyncIterator[pb.BatchAdmitStreamRequest]:
        for index in range(3):
            request = pb.BatchAdmitStreamRequest()
            item = request.items.add(request=_admit(f"k{index}"))
            item.context.index, item.context.tenant = index, "acme"
            item.context.timeout.seconds = 30
            yield request

    async def settlements() -> AsyncIterator[pb.BatchSettleStreamRequest]:
        for index in range(3):
            request = pb.BatchSettleStreamRequest()
            item = request.items.add(request=_settle(f"k{index}", input_tokens=1000))
            item.context.index, item.context.tenant = index, "acme"
            item.context.timeout.seconds = 30
            yield request

    admitted = [
        (result.index, result.response.reservation.reserved_micros)
        async for response in stubs[0].BatchAdmitStream(admissions(), timeout=30)
        for result in response.results
    ]
    assert admitted == [(0, 18_000), (1, 18_000), (2, 18_000)]
    settled = [
        (result.index, result.response.cost_micros)
        async for response in stubs[1].BatchSettleStream(settlements(), timeout=30)
        for result in response.results
    ]
    assert settled == [(0, 3000), (1, 3000), (2, 3000)]
    spend = await stubs[0].GetSpend(pb.GetSpendRequest(parent=_ACME), timeout=30)
    assert (spend.day.spent_micros, spend.day.reserved_micros) == (9000, 0)


async def test_batch_that_is_too_large_is_refused(stubs: list[Any]) -> None:
    """More than 256 items are refused as a whole."""
    batch = pb.BatchAdmitRequest(items=[pb.BatchAdmitItem()] * 257)
    with pytest.raises(errors.TooLarge) as caught:
        async for _ in stubs[0].BatchAdmit(batch, timeout=30):
            pass
    assert caught.value.message == "A batch of 257 items is over the limit of 256."


async def test_batch_of_a_tenant_carries_no_items_of_another(stubs: list[Any]) -> None:
    """Only a batch that says so may carry items of many tenants; each needs a time limit."""
    batch = pb.BatchAdmitRequest()
    for tenant, seconds in (("other", 5), ("acme", 0)):
        item = batch.items.add(request=_admit("a", parent=f"tenants/{tenant}"))
        item.context.tenant, item.context.timeout.seconds = tenant, seconds
    reasons = [
        errors.from_status(result.error).message
        async for response in stubs[0].BatchAdmit(batch, timeout=30)
        for result in response.results
    ]
    assert reasons == [
        "A call of tenant acme cannot carry an item of 'other'.",
        "context.timeout: must be over zero",
    ]


async def test_lease_is_granted_spent_and_given_back(stubs: list[Any]) -> None:
    """Any governor knows it: what is settled under it takes its place, and the rest is free."""
    asked = pb.AcquireLeaseRequest(
        parent=_ACME, lease="l1", task_type="chat", agent="helper", amount_micros=100_000
    )
    granted = await stubs[0].AcquireLease(asked, timeout=30)
    assert granted == await stubs[1].AcquireLease(asked, timeout=30)
    assert (granted.reservation.key, granted.reservation.reserved_micros) == ("l1", 100_000)
    assert granted.price_version
    assert not granted.HasField("retry_after")
    settle = _settle("k1", input_tokens=1000)
    settle.lease, settle.leased_micros, settle.price_version = "l1", 3000, granted.price_version
    settle.call_time.FromDatetime(datetime(2026, 1, 1, tzinfo=UTC))
    assert (await stubs[1].Settle(settle, timeout=30)).cost_micros == 3000
    release = pb.ReleaseRequest(parent=_ACME, key="l1", keep_micros=7000)
    assert (await stubs[0].Release(release, timeout=30)).released_micros == 90_000
    spend = await stubs[1].GetSpend(pb.GetSpendRequest(parent=_ACME), timeout=30)
    assert (spend.day.spent_micros, spend.day.reserved_micros) == (3000, 7000)


async def test_nothing_is_leased_of_a_budget_that_is_nearly_spent(stubs: list[Any]) -> None:
    """Each call must be asked for, and the answer says when to ask for a lease again."""
    await stubs[0].Settle(_settle("k", input_tokens=260_000), timeout=30)
    granted = await stubs[0].AcquireLease(
        pb.AcquireLeaseRequest(parent=_ACME, lease="l1", amount_micros=900_000), timeout=30
    )
    assert granted.reservation.reserved_micros == 0
    assert granted.retry_after.ToSeconds() == 5


async def test_release_frees_a_reservation(stubs: list[Any]) -> None:
    """What is released is answered once."""
    await stubs[0].Admit(_admit("a"), timeout=30)
    release = pb.ReleaseRequest(parent=_ACME, key="a")
    assert (await stubs[0].Release(release, timeout=30)).released_micros == 18_000
    assert (await stubs[1].Release(release, timeout=30)).released_micros == 0


_MALFORMED: Final = [
    (_admit("a", parent="acme"), "parent", None),
    (_admit(""), "key", "must have 1 to 200 characters, not 0"),
    (_admit("k" * 201), "key", "must have 1 to 200 characters, not 201"),
    (_admit("a", model=""), "model", "must name the model that is called"),
    (_admit("a", input_tokens=-1), "input_tokens", "must be from 0 to 1000000000, not -1"),
    (_admit("a", max_output_tokens=2**40), "max_output_tokens", "must be from 0 to 1000000000, not 1099511627776"),
    (_admit("a", task_limit_micros=-1), "task_limit_micros", "must be from 0 to 9000000000000000, not -1"),
    (_admit("a", task_spent_micros=-1), "task_spent_micros", "must be from 0 to 9000000000000000, not -1"),
    (_admit("a", task_limit_micros=5), "task", "must name the task whose cap `task_limit_micros` is"),
    (_admit("a", tier=9), "tier", "must be FAST, BALANCED, POWERFUL or unset"),
    (_admit("a", task_type="a b"), "task_type", "must have at most 200 characters, no blank and no control character"),
    (_admit("a", agent="a" * 201), "agent", "must have at most 200 characters, no blank and no control character"),
    (_admit("a", session="a\nb"), "session", "must have at most 200 characters, no blank and no control character"),
    (_admit("a", session="a\0b"), "session", "must have at most 200 characters, no blank and no control character"),
    (_settle("a\0b"), "key", "must have no control character"),
    (_settle("a\x9fb"), "key", "must have no control character"),
    (_admit("a", task="a b"), "task", "must be a task's id or name, not 'a b'"),
    (_settle("a", output_tokens=-1), "usage.output_tokens", "must be from 0 to 1000000000, not -1"),
    (_settle("a", input_tokens=5, cached_input_tokens=6), "usage.cached_input_tokens", "must be from 0 to 5, not 6"),
    (_settle("a", model_calls=-1), "usage.model_calls", "must be from 0 to 1000000, not -1"),
    (_changed(_settle("a"), leased_micros=-1, lease="l"), "leased_micros", "must be from 0 to 9000000000000000, not -1"),
    (_changed(_settle("a"), leased_micros=1), "lease", "must name the lease that `leased_micros` were taken of"),
    (_changed(_settle("a"), call_time=Timestamp(seconds=-(2**60))), "call_time", "must be a time from the year 1 to 9999"),
    (_changed(_settle("a"), price_version="nobody"), "price_version", None),
    (pb.AcquireLeaseRequest(parent=_ACME, lease="l"), "amount_micros", "must be from 1 to 9000000000000000, not 0"),
    (pb.AcquireLeaseRequest(parent=_ACME, lease="l", amount_micros=2**63 - 1), "amount_micros", "must be from 1 to 9000000000000000, not 9223372036854775807"),
    (pb.AcquireLeaseRequest(parent=_ACME, amount_micros=1), "lease", "must have 1 to 200 characters, not 0"),
    (pb.ReleaseRequest(parent=_ACME, key="l", keep_micros=-1), "keep_micros", "must be from 0 to 9000000000000000, not -1"),
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
        lambda: eve.Admit(_admit("a"), timeout=30),
        lambda: eve.Settle(_settle("a"), timeout=30),
        lambda: eve.Release(pb.ReleaseRequest(parent=_ACME, key="a"), timeout=30),
        lambda: eve.AcquireLease(
            pb.AcquireLeaseRequest(parent=_ACME, lease="l", amount_micros=1), timeout=30
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
        await eve.Release(pb.ReleaseRequest(parent=_ACME), timeout=30)


async def _all(stream: Any) -> list[Any]:
    return [each async for each in stream]


async def _once(message: Any) -> AsyncIterator[Any]:
    yield message


async def test_tenant_of_another_is_forbidden(stubs: list[Any]) -> None:
    """Nobody reserves, settles or looks in the name of a tenant that is not theirs."""
    for call in (
        stubs[0].Admit(_admit("a", parent="tenants/other"), timeout=30),
        stubs[0].Release(pb.ReleaseRequest(parent="tenants/other", key="a"), timeout=30),
        stubs[0].AcquireLease(
            pb.AcquireLeaseRequest(parent="tenants/other", lease="l", amount_micros=1), timeout=30
        ),
        stubs[0].GetSpend(pb.GetSpendRequest(parent="tenants/other"), timeout=30),
    ):
        with pytest.raises(errors.Forbidden):
            await call
