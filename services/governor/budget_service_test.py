"""Budgets through real servers: two governors on one broker and one Redis."""

# Tables of cases have one case a line.
# ruff: noqa: E501

import asyncio
from typing import Any, Final

import pytest

from agentmesh.common.v1 import tier_pb2
from agentmesh.governor.v1 import budget_pb2
from agentmesh.governor.v1 import cost_governor_service_pb2 as pb
from meshkit import errors, identity
from services.governor.account import Decision

pytest_plugins = ["services.governor.fixture_budgets"]

_ACME = "tenants/acme"
_DAY = f"{_ACME}/budgets/tenant-day"
_CHAT = f"{_ACME}/budgets/task-type-day-chat"


def _budget(name: str = _DAY, **more: Any) -> budget_pb2.Budget:
    fields: dict[str, Any] = {"name": name, "limit_micros": 500}
    return budget_pb2.Budget(**(fields | more))


async def _set(stub: Any, budget: budget_pb2.Budget, request_id: str = "") -> budget_pb2.Budget:
    request = pb.SetBudgetRequest(budget=budget, request_id=request_id)
    return (await stub.SetBudget(request, timeout=30)).budget


async def _admit(stub: Any, key: str, tokens: int, **fields: Any) -> pb.AdmitResponse:
    request = pb.AdmitRequest(
        parent=_ACME, key=key, model="unit", input_tokens=tokens, task_type="chat", **fields
    )
    return await stub.Admit(request, timeout=30)


async def test_set_budget_is_stored_with_what_its_name_says(governors: list[Any]) -> None:
    """Scope, subject and window may be left out; the shutoff is at the limit if it is not given."""
    stored = await _set(
        governors[0],
        _budget(
            _CHAT,
            time_zone="Europe/Berlin",
            thresholds=budget_pb2.BudgetThresholds(alert_percent=50, degrade_percent=50),
        ),
    )
    assert stored.etag
    assert (stored.scope, stored.subject, stored.window) == (
        budget_pb2.BUDGET_SCOPE_TASK_TYPE,
        "chat",
        budget_pb2.BUDGET_WINDOW_DAY,
    )
    assert stored.thresholds == budget_pb2.BudgetThresholds(
        alert_percent=50, degrade_percent=50, shutoff_percent=100
    )
    status = (await governors[1].GetBudget(pb.GetBudgetRequest(name=_CHAT), timeout=30)).status
    assert status.budget == stored
    # The clock says 00:00 in UTC.
    assert status.window_start.ToJsonString() == "2025-12-31T23:00:00Z"
    assert status.resets_at.ToJsonString() == "2026-01-01T23:00:00Z"


async def test_budget_holds_from_the_next_admit_on_at_every_governor(governors: list[Any]) -> None:
    """Whoever decides after a budget was set decides by that budget."""
    for turn in range(20):
        limit = 100 + turn
        await _set(governors[turn % 2], _budget(limit_micros=limit))
        denied = await _admit(governors[1 - turn % 2], f"k{turn}", limit + 1)
        assert denied.decision == budget_pb2.DECISION_DENY
        assert denied.budget == _DAY


async def test_new_budget_begins_with_what_was_spent(governors: list[Any]) -> None:
    """A limit in the middle of a day counts what the ledger has of that day."""
    for key, tokens in (("a", 300), ("b", 100)):
        await _admit(governors[0], key, tokens)
        usage = {"input_tokens": tokens, "model_calls": 1}
        settle = pb.SettleRequest(
            parent=_ACME, key=key, model="unit", usage=usage, task_type="chat"
        )
        await governors[0].Settle(settle, timeout=30)
    await _set(governors[0], _budget(_CHAT))
    status = (await governors[1].GetBudget(pb.GetBudgetRequest(name=_CHAT), timeout=30)).status
    assert (status.spent_micros, status.reserved_micros) == (400, 0)
    assert (await _admit(governors[1], "c", 101)).budget == _CHAT
    assert (await _admit(governors[1], "d", 100)).decision == budget_pb2.DECISION_ALLOW


async def test_stale_etag_is_a_conflict(governors: list[Any]) -> None:
    """A change is lost neither by a stale etag nor by one that expects nothing."""
    first = await _set(governors[0], _budget(etag="0"))
    second = await _set(governors[1], _budget(limit_micros=600, etag=first.etag))
    assert second.etag != first.etag
    for etag in (first.etag, "0"):
        with pytest.raises(errors.Conflict) as caught:
            await _set(governors[0], _budget(limit_micros=700, etag=etag))
        assert caught.value.message == (
            f"The budget {_DAY} has changed: its etag is {second.etag!r}, not {etag!r}."
            " Read it again, and apply your change to that."
        )
    with pytest.raises(errors.Conflict) as caught:
        await governors[0].DeleteBudget(
            pb.DeleteBudgetRequest(name=_DAY, etag=first.etag), timeout=30
        )
    status = (await governors[0].GetBudget(pb.GetBudgetRequest(name=_DAY), timeout=30)).status
    assert status.budget == second


async def test_of_many_changes_with_one_etag_one_wins(governors: list[Any]) -> None:
    """Compare and set holds over governors that write at the same moment."""
    first = await _set(governors[0], _budget())
    outcomes = await asyncio.gather(
        *(
            _set(governors[n % 2], _budget(limit_micros=600 + n, etag=first.etag))
            for n in range(10)
        ),
        return_exceptions=True,
    )
    won = [each for each in outcomes if isinstance(each, budget_pb2.Budget)]
    assert len(won) == 1
    assert [type(each) for each in outcomes].count(errors.Conflict) == 9


async def test_repeated_request_gives_the_same_budget(governors: list[Any]) -> None:
    """With its request id a repeat changes nothing, even after another change; with others' figures
    it is refused."""
    first = await _set(governors[0], _budget(), request_id="r1")
    await _set(governors[1], _budget(limit_micros=600))
    assert await _set(governors[1], _budget(), request_id="r1") == first
    status = (await governors[0].GetBudget(pb.GetBudgetRequest(name=_DAY), timeout=30)).status
    assert status.budget.limit_micros == 600
    with pytest.raises(errors.RequestIdReused):
        await _set(governors[1], _budget(limit_micros=700), request_id="r1")


async def test_deleted_budget_leaves_the_one_of_the_tier(governors: list[Any]) -> None:
    """Deleting what nobody has set is BUDGET_NOT_FOUND."""
    delete = pb.DeleteBudgetRequest(name=_DAY)
    await _set(governors[0], _budget(limit_micros=50))
    assert (await _admit(governors[1], "a", 51)).decision == budget_pb2.DECISION_DENY
    await governors[0].DeleteBudget(delete, timeout=30)
    assert (await _admit(governors[1], "a", 51)).decision == budget_pb2.DECISION_ALLOW
    status = (await governors[1].GetBudget(pb.GetBudgetRequest(name=_DAY), timeout=30)).status
    assert (status.budget.limit_micros, status.budget.etag) == (1_000, "")
    with pytest.raises(errors.BudgetNotFound) as caught:
        await governors[0].DeleteBudget(delete, timeout=30)
    assert caught.value.message == f"There is no budget {_DAY!r} to delete."
    with pytest.raises(errors.BudgetNotFound):
        await governors[0].GetBudget(pb.GetBudgetRequest(name=_CHAT), timeout=30)


async def test_budgets_are_listed_in_order_and_by_page(governors: list[Any]) -> None:
    """Those that the tenant's tier gives are among them."""
    await _set(governors[0], _budget(_CHAT))
    names: list[str] = []
    request = pb.ListBudgetsRequest(parent=_ACME, page_size=2)
    while True:
        page = await governors[1].ListBudgets(request, timeout=30)
        names += [each.budget.name for each in page.statuses]
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert names == [_CHAT, _DAY, f"{_ACME}/budgets/tenant-month"]
    with pytest.raises(errors.InvalidPageToken):
        await governors[1].ListBudgets(
            pb.ListBudgetsRequest(parent=_ACME, page_token="x"), timeout=30
        )


async def test_tenant_may_have_so_many_budgets(governors: list[Any]) -> None:
    """One more is refused with a reason; one that is there may be changed."""
    for subject in "abc":
        await _set(governors[0], _budget(f"{_ACME}/budgets/agent-day-{subject}"))
    with pytest.raises(errors.TooLarge) as caught:
        await _set(governors[0], _budget(f"{_ACME}/budgets/agent-day-d"))
    assert caught.value.message == (
        "The tenant acme has 3 budgets, and may have 3. Delete one that is needed no longer."
    )
    await _set(governors[0], _budget(f"{_ACME}/budgets/agent-day-a", limit_micros=7))


async def test_only_operators_set_and_see_what_concerns_all_tenants(governors: list[Any]) -> None:
    """Others are told so; tenants have their own budgets alone."""
    everywhere = "budgets/global-month"
    for call in (
        governors[0].SetBudget(pb.SetBudgetRequest(budget=_budget(everywhere)), timeout=30),
        governors[0].GetBudget(pb.GetBudgetRequest(name=everywhere), timeout=30),
        governors[0].DeleteBudget(pb.DeleteBudgetRequest(name=everywhere), timeout=30),
        governors[0].ListBudgets(pb.ListBudgetsRequest(parent="tenants/-"), timeout=30),
        governors[0].SetBudget(
            pb.SetBudgetRequest(budget=_budget("tenants/other/budgets/tenant-day")), timeout=30
        ),
        governors[0].ListBudgets(pb.ListBudgetsRequest(parent="tenants/other"), timeout=30),
        governors[0].ExplainBudget(pb.ExplainBudgetRequest(parent="tenants/other"), timeout=30),
    ):
        with pytest.raises(errors.Forbidden):
            await call
    await _set(governors[1], _budget(everywhere, limit_micros=10))
    listed = await governors[1].ListBudgets(pb.ListBudgetsRequest(parent="tenants/-"), timeout=30)
    assert [each.budget.name for each in listed.statuses] == [everywhere]
    denied = await _admit(governors[0], "a", 11)
    assert (denied.budget, denied.explanation) == (
        everywhere,
        "What all tenants together may spend is spent. It starts again at 2026-02-01T00:00:00Z.",
    )
    explained = await governors[0].ExplainBudget(pb.ExplainBudgetRequest(parent=_ACME), timeout=30)
    assert [each.budget.name for each in explained.statuses] == [
        _DAY,
        f"{_ACME}/budgets/tenant-month",
    ]


async def test_explanation_has_every_budget_and_names_the_one_that_decides(
    governors: list[Any],
) -> None:
    """The widest scope first; the task's cap is known from its calls."""
    await _set(
        governors[0],
        _budget(
            _CHAT, thresholds=budget_pb2.BudgetThresholds(degrade_percent=40, throttle_percent=80)
        ),
    )
    asked = pb.ExplainBudgetRequest(
        parent=_ACME, task_type="chat", task="t1", tier=tier_pb2.MODEL_TIER_BALANCED
    )
    explained = await governors[0].ExplainBudget(asked, timeout=30)
    assert explained.decision == budget_pb2.DECISION_ALLOW
    await _admit(governors[0], "a", 200, task="t1", task_limit_micros=450)
    explained = await governors[1].ExplainBudget(asked, timeout=30)
    stands = [
        (each.budget.name, each.spent_micros, each.reserved_micros, each.budget.limit_micros)
        for each in explained.statuses
    ]
    assert stands == [
        (_DAY, 0, 200, 1_000),
        (f"{_ACME}/budgets/tenant-month", 0, 200, 10_000),
        (_CHAT, 0, 200, 500),
        (f"{_ACME}/budgets/task-lifetime-t1", 0, 200, 450),
    ]
    assert (explained.decision, explained.deciding_budget, explained.degrade_to) == (
        budget_pb2.DECISION_DEGRADE,
        _CHAT,
        tier_pb2.MODEL_TIER_FAST,
    )
    assert explained.explanation == (
        f"{_CHAT} allows 0.0005 USD; 0.00 USD are spent and 0.0002 USD reserved:"
        " from 40 % on cheaper tiers are used."
    )
    await _admit(governors[0], "b", 200, task="t1", task_limit_micros=450)
    explained = await governors[1].ExplainBudget(asked, timeout=30)
    assert explained.decision == budget_pb2.DECISION_THROTTLE
    asked.lane = tier_pb2.LANE_INTERACTIVE
    explained = await governors[1].ExplainBudget(asked, timeout=30)
    assert explained.decision == budget_pb2.DECISION_DEGRADE
    await _admit(governors[0], "c", 50, task="t1", task_limit_micros=450, lane=1)
    explained = await governors[1].ExplainBudget(asked, timeout=30)
    # Nothing of it is spent, and so there may be room again.
    assert (explained.decision, explained.deciding_budget) == (
        budget_pb2.DECISION_THROTTLE,
        f"{_ACME}/budgets/task-lifetime-t1",
    )
    assert explained.statuses[3].HasField("resets_at") is False


async def test_explanation_says_what_admit_says(governors: list[Any]) -> None:
    """What is only reserved comes free again; what is spent does not, whoever's budget it is."""
    everywhere = "budgets/global-day"
    await _set(governors[1], _budget(everywhere, limit_micros=100))
    asked = pb.ExplainBudgetRequest(parent=_ACME, task_type="chat")
    await _admit(governors[0], "a", 100)
    for decision, text in (
        (
            budget_pb2.DECISION_THROTTLE,
            "What all tenants together may spend is reserved."
            " There is room again when calls under way have ended.",
        ),
        (
            budget_pb2.DECISION_DENY,
            "What all tenants together may spend is spent."
            " It starts again at 2026-01-02T00:00:00Z.",
        ),
    ):
        explained = await governors[0].ExplainBudget(asked, timeout=30)
        admitted = await _admit(governors[0], "b", 1)
        assert (explained.decision, explained.deciding_budget, explained.explanation) == (
            decision,
            everywhere,
            text,
        )
        assert (admitted.decision, admitted.budget, admitted.explanation) == (
            decision,
            everywhere,
            text,
        )
        usage = {"input_tokens": 100, "model_calls": 1}
        settle = pb.SettleRequest(
            parent=_ACME, key="a", model="unit", usage=usage, task_type="chat"
        )
        await governors[0].Settle(settle, timeout=30)


async def test_what_refuses_a_task_before_its_first_call_is_noticed(
    governors: list[Any], noticed: list[Decision]
) -> None:
    """Tasks are asked about before they are accepted: nobody else hears of a spent budget."""
    await _set(governors[0], _budget(_DAY, limit_micros=100))
    await _admit(governors[0], "a", 100)
    await governors[0].ExplainBudget(pb.ExplainBudgetRequest(parent=_ACME), timeout=30)
    (decision,) = noticed
    assert (decision.level, decision.reserved_micros) == (3, 100)


async def test_explanation_says_which_tiers_a_tenant_may_use(governors: list[Any]) -> None:
    """The tenant's tier decides where no budget does."""
    with identity.use(identity.Identity("free", "user:anna")):
        asked = pb.ExplainBudgetRequest(parent="tenants/free", tier=tier_pb2.MODEL_TIER_POWERFUL)
        explained = await governors[0].ExplainBudget(asked, timeout=30)
    assert (explained.decision, explained.deciding_budget, explained.degrade_to) == (
        budget_pb2.DECISION_DEGRADE,
        "tenants/free",
        tier_pb2.MODEL_TIER_FAST,
    )
    assert explained.explanation == "The tenant free may use FAST models only."


_MALFORMED: Final = [
    (_budget(limit_micros=0), "budget.limit_micros", "must be from 1 to 9000000000000000, not 0"),
    (_budget(limit_micros=-1), "budget.limit_micros", "must be from 1 to 9000000000000000, not -1"),
    (_budget(limit_micros=2**63 - 1), "budget.limit_micros", "must be from 1 to 9000000000000000, not 9223372036854775807"),
    (_budget(scope=budget_pb2.BUDGET_SCOPE_AGENT), "budget.scope", "must be TENANT, as the name says, or unset"),
    (_budget(scope=99), "budget.scope", "must be GLOBAL, TENANT, TASK_TYPE, AGENT, SESSION or unset"),
    (_budget(scope=budget_pb2.BUDGET_SCOPE_TASK), "budget.scope", "must not be TASK: a task's cap is given when the task is submitted"),
    (_budget(f"{_ACME}/budgets/task-lifetime-t1"), "budget.scope", "must not be TASK: a task's cap is given when the task is submitted"),
    (_budget(subject="x"), "budget.subject", "must be empty, not 'x'"),
    (_budget(_CHAT, subject="x"), "budget.subject", "must be 'chat', as the name says, or empty, not 'x'"),
    (_budget(window=budget_pb2.BUDGET_WINDOW_MONTH), "budget.window", "must be DAY, as the name says, or unset"),
    (_budget(f"{_ACME}/budgets/tenant-lifetime"), "budget.window", "must be DAY or MONTH with scope TENANT, not LIFETIME"),
    (_budget(f"{_ACME}/budgets/session-day-s1"), "budget.window", "must be LIFETIME with scope SESSION, not DAY"),
    (_budget(time_zone="right/Europe/Berlin"), "budget.time_zone", "must be the IANA name of a time zone, such as 'Europe/Berlin', not 'right/Europe/Berlin'"),
    (_budget(time_zone="Mars/Olympus"), "budget.time_zone", "must be the IANA name of a time zone, such as 'Europe/Berlin', not 'Mars/Olympus'"),
    (_budget(thresholds=budget_pb2.BudgetThresholds(alert_percent=101)), "budget.thresholds.alert_percent", "must be from 0 to 100, not 101"),
    (_budget(thresholds=budget_pb2.BudgetThresholds(degrade_percent=-1)), "budget.thresholds.degrade_percent", "must be from 0 to 100, not -1"),
    (_budget(thresholds=budget_pb2.BudgetThresholds(degrade_percent=90, throttle_percent=80)), "budget.thresholds.throttle_percent", "must be at least degrade_percent (90), or 0 to be off, not 80"),
    (_budget(thresholds=budget_pb2.BudgetThresholds(alert_percent=70, shutoff_percent=60)), "budget.thresholds.shutoff_percent", "must be at least alert_percent (70), or 0 to be off, not 60"),
    (_budget("tenants/acme/budgets/tenant-week"), "budget.name", None),
    (_budget("budgets/tenant-day"), "budget.name", None),
    (_budget("tenants/acme/budgets/global-day"), "budget.name", None),
    (_budget("tenants/acme/budgets/agent-day-*"), "budget.name", None),
    (_budget("tenants/acme/budgets/tenant-day-x"), "budget.name", None),
    (_budget(""), "budget.name", None),
]  # fmt: skip


async def test_wrong_field_is_named(governors: list[Any]) -> None:
    """What is malformed is INVALID_FIELD with the field's path and what would be right."""
    for budget, field, description in _MALFORMED:
        with pytest.raises(errors.InvalidField) as caught:
            await _set(governors[0], budget)
        (violation,) = caught.value.violations
        told = (violation.field, violation.description)
        assert told == (field, description or violation.description), budget


@pytest.mark.parametrize("request_id", ["a\nb", "a\r\nb: c", " a ", "a\x00b", "ä\u2028€", "a:b-1"])
async def test_any_words_make_a_change_repeatable(governors: list[Any], request_id: str) -> None:
    """What is no line of a header is a request id like any other."""
    first = await _set(governors[0], _budget(), request_id)
    await _set(governors[0], _budget(limit_micros=600))
    assert await _set(governors[1], _budget(), request_id) == first
    with pytest.raises(errors.RequestIdReused):
        await _set(governors[0], _budget(limit_micros=700), request_id)


async def test_what_is_absurdly_long_is_refused_in_short(governors: list[Any]) -> None:
    """An answer that repeats it all would be too long for the gateway."""
    with pytest.raises(errors.InvalidField) as caught:
        await _set(governors[0], _budget(), "r" * 201)
    assert caught.value.message == "request_id: must have at most 200 characters, not 201"
    for call in (
        _set(governors[0], _budget(etag="x" * 100_000)),
        _set(governors[0], _budget(_CHAT, etag="x" * 100_000)),
    ):
        with pytest.raises(errors.Conflict) as conflict:
            await call
        assert len(conflict.value.message) < 300


async def test_every_fault_is_named_at_once(governors: list[Any]) -> None:
    """Who sets a budget need not try again for each of its faults."""
    with pytest.raises(errors.InvalidField) as caught:
        await _set(governors[0], _budget(limit_micros=0, time_zone="Nowhere"))
    assert [each.field for each in caught.value.violations] == [
        "budget.limit_micros",
        "budget.time_zone",
    ]
