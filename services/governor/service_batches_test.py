"""Batches of calls to the governor, behind a real gRPC server."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from agentmesh.governor.v1 import cost_governor_service_pb2 as pb
from meshkit import errors, identity
from meshkit.constants import BATCH_TENANT
from services.governor.service_calls import ACME, admit_request, settle_request

pytest_plugins = ["services.governor.fixture_service"]


async def test_batch_answers_each_item_by_its_index(stubs: list[Any]) -> None:
    """Items of several tenants travel together; each has its own answer or its own error."""
    batch = pb.BatchAdmitRequest()
    for index, (tenant, request) in enumerate(
        [
            ("acme", admit_request("a")),
            ("other", admit_request("a", parent="tenants/other")),
            ("other", admit_request("b")),
            ("acme", admit_request("c", model="nobody")),
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
    for index, request in enumerate([settle_request("a", input_tokens=1000), settle_request("")]):
        item = settling.items.add(request=request)
        item.context.index, item.context.tenant = index, "acme"
        item.context.timeout.seconds = 30
    settled = [
        (result.index, result.WhichOneof("outcome"))
        async for response in stubs[1].BatchSettle(settling, timeout=30)
        for result in response.results
    ]
    assert sorted(settled) == [(0, "response"), (1, "error")]
    spend = await stubs[0].GetSpend(pb.GetSpendRequest(parent=ACME), timeout=30)
    assert (spend.day.spent_micros, spend.day.reserved_micros) == (3000, 0)


async def test_batches_that_follow_each_other_on_a_stream_are_answered_one_by_one(
    stubs: list[Any],
) -> None:
    """Admissions and settlements, each batch in a message of its own."""

    async def admissions() -> AsyncIterator[pb.BatchAdmitStreamRequest]:
        for index in range(3):
            request = pb.BatchAdmitStreamRequest()
            item = request.items.add(request=admit_request(f"k{index}"))
            item.context.index, item.context.tenant = index, "acme"
            item.context.timeout.seconds = 30
            yield request

    async def settlements() -> AsyncIterator[pb.BatchSettleStreamRequest]:
        for index in range(3):
            request = pb.BatchSettleStreamRequest()
            item = request.items.add(request=settle_request(f"k{index}", input_tokens=1000))
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
    spend = await stubs[0].GetSpend(pb.GetSpendRequest(parent=ACME), timeout=30)
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
        item = batch.items.add(request=admit_request("a", parent=f"tenants/{tenant}"))
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
