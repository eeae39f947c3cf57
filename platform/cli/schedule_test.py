"""Schedules on the command line."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from agentmesh.common.v1.tier_pb2 import Lane
from agentmesh.coordinator.v1 import schedule_service_pb2 as pb
from agentmesh.coordinator.v1.schedule_service_pb2_grpc import ScheduleServiceServicer
from cli.command_mesh import Commands, commands_for
from meshkit.errors import Conflict, InvalidField, ScheduleNotFound

pytest_plugins = ["cli.fixture_zone"]

# A person in Berlin reads the times.
pytestmark = pytest.mark.usefixtures("berlin")

_SCHEDULES = "tenants/default/schedules"


class _Schedules(ScheduleServiceServicer):
    """Schedules under etags; every next run is the same."""

    def __init__(self) -> None:
        self.stored: dict[str, pb.Schedule] = {}
        self.request_ids: list[str] = []
        # How often somebody else is quicker.
        self.others = 0

    def _store(self, schedule: pb.Schedule) -> pb.Schedule:
        if schedule.cron == "never":
            raise InvalidField("schedule.cron", "never fires")
        stored = pb.Schedule()
        stored.CopyFrom(schedule)
        before = self.stored.get(schedule.name)
        stored.etag = str(int(before.etag) + 1 if before else 1)
        stored.ClearField("next_run_time")
        if not stored.paused:
            stored.next_run_time.FromJsonString("2099-03-27T08:00:00Z")
        self.stored[schedule.name] = stored
        return stored

    async def CreateSchedule(
        self, request: pb.CreateScheduleRequest, context: Any
    ) -> pb.CreateScheduleResponse:
        self.request_ids.append(request.request_id)
        request.schedule.name = f"{request.parent}/schedules/{request.schedule_id}"
        return pb.CreateScheduleResponse(schedule=self._store(request.schedule))

    async def GetSchedule(
        self, request: pb.GetScheduleRequest, context: Any
    ) -> pb.GetScheduleResponse:
        if request.name not in self.stored:
            raise ScheduleNotFound(f"There is no schedule {request.name}.")
        return pb.GetScheduleResponse(schedule=self.stored[request.name])

    async def ListSchedules(
        self, request: pb.ListSchedulesRequest, context: Any
    ) -> pb.ListSchedulesResponse:
        return pb.ListSchedulesResponse(schedules=self.stored.values())

    async def UpdateSchedule(
        self, request: pb.UpdateScheduleRequest, context: Any
    ) -> pb.UpdateScheduleResponse:
        if self.others:
            self.others -= 1
            other = pb.Schedule()
            other.CopyFrom(self.stored[request.schedule.name])
            other.task.priority += 1
            self._store(other)
        if request.schedule.etag != self.stored[request.schedule.name].etag:
            raise Conflict("The schedule has changed.")
        return pb.UpdateScheduleResponse(schedule=self._store(request.schedule))

    async def DeleteSchedule(
        self, request: pb.DeleteScheduleRequest, context: Any
    ) -> pb.DeleteScheduleResponse:
        del self.stored[request.name]
        return pb.DeleteScheduleResponse()


@pytest.fixture
async def schedules() -> _Schedules:
    return _Schedules()


@pytest.fixture
async def commands(schedules: _Schedules) -> AsyncIterator[Commands]:
    async with commands_for(ScheduleService=schedules) as commands:
        yield commands


async def _create(commands: Commands) -> str:
    result = await commands.run(
        "schedule", "create", "report", "Write the report", "--cron", "0 9 * * *",
        "--time-zone", "Europe/Berlin", "--missed", "skip", "--overlap", "skip",
        "--lane", "batch", "--label", "team=ops", "--budget", "0.25",
    )  # fmt: skip
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout


async def test_a_schedule_is_created_with_its_task(
    commands: Commands, schedules: _Schedules
) -> None:
    """Every option arrives, and a call that breaks could be repeated."""
    await _create(commands)
    made = schedules.stored[f"{_SCHEDULES}/report"]
    assert (made.cron, made.time_zone) == ("0 9 * * *", "Europe/Berlin")
    assert made.missed_runs == pb.MissedRunPolicy.MISSED_RUN_POLICY_SKIP
    assert made.overlap == pb.OverlapPolicy.OVERLAP_POLICY_SKIP
    assert made.task.input.text == "Write the report"
    assert (made.task.lane, made.task.budget_micros) == (Lane.LANE_BATCH, 250_000)
    assert dict(made.task.labels) == {"team": "ops"}
    assert schedules.request_ids[0].startswith("cli-")


async def test_the_next_runs_are_shown_in_the_local_zone(commands: Commands) -> None:
    """The zone's change of clocks on 29 March shows in the offset, not in the hour."""
    shown = await _create(commands)
    lines = [line.split(" (in ")[0] for line in shown.splitlines() if "2099" in line]
    runs = [line.split("  ")[-1].strip() for line in lines]
    assert runs == [
        "2099-03-27 09:00:00 +01:00",
        "2099-03-28 09:00:00 +01:00",
        "2099-03-29 09:00:00 +02:00",
    ]


async def test_an_update_changes_what_is_named_alone(
    commands: Commands, schedules: _Schedules
) -> None:
    """Also where somebody else changes the schedule at the same time."""
    await _create(commands)
    schedules.others = 1
    result = await commands.run("schedule", "update", "report", "--cron", "0 8 * * *")
    assert result.exit_code == 0
    changed = schedules.stored[f"{_SCHEDULES}/report"]
    assert (changed.cron, changed.task.priority) == ("0 8 * * *", 1)
    assert (changed.task.input.text, changed.task.lane) == ("Write the report", Lane.LANE_BATCH)
    await commands.run("schedule", "update", "report", "--text", "Again", "--priority", "0")
    assert (changed := schedules.stored[f"{_SCHEDULES}/report"]).task.priority == 0
    assert changed.task.input.text == "Again"


async def test_a_change_that_never_finds_a_gap_is_given_up(
    commands: Commands, schedules: _Schedules
) -> None:
    """The conflict is told."""
    await _create(commands)
    schedules.others = 100
    result = await commands.run("schedule", "pause", "report")
    assert result.exit_code == 1
    assert "(CONFLICT)" in result.stderr


async def test_pausing_and_resuming_show_in_the_list(commands: Commands) -> None:
    """A paused schedule has no next run."""
    await _create(commands)
    assert "Next runs  paused" in (await commands.run("schedule", "pause", "report")).stdout
    assert "paused" in (await commands.run("schedule", "list")).stdout.splitlines()[1]
    assert (
        "2099-03-27 09:00:00 +01:00" in (await commands.run("schedule", "resume", "report")).stdout
    )
    document = json.loads((await commands.run("schedule", "list", "--json")).stdout)
    assert [each["paused"] for each in document["schedules"]] == [False]


@pytest.mark.parametrize(
    ("run", "text"),
    [
        ({"task": "tenants/default/tasks/t1"}, ", task t1"),
        ({"error": {"message": "The queue is full."}}, ", refused: The queue is full."),
        ({"skipped": True}, ", left out: the run before was open"),
        ({"task": "t/t2", "missed": 3}, ", task t2, after 3 missed times"),
    ],
)
async def test_what_became_of_the_last_run_is_shown(
    commands: Commands, schedules: _Schedules, run: dict[str, Any], text: str
) -> None:
    """Its time, and its task or why there is none."""
    await _create(commands)
    last = schedules.stored[f"{_SCHEDULES}/report"].last_run
    last.CopyFrom(pb.ScheduledRun(**run))
    last.time.FromJsonString("2026-07-31T08:00:00Z")
    shown = (await commands.run("schedule", "get", "report")).stdout
    (line,) = [line for line in shown.splitlines() if line.startswith("Last run")]
    assert line.split("  ", 1)[1].strip() == f"2026-07-31 10:00:00 +02:00{text}"


async def test_a_schedule_can_be_deleted(commands: Commands, schedules: _Schedules) -> None:
    """It is gone from the list."""
    await _create(commands)
    result = await commands.run("schedule", "delete", "report")
    assert result.stdout == f"{_SCHEDULES}/report is deleted.\n"
    assert (await commands.run("schedule", "list")).stdout == "There are no schedules.\n"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["create", "x", "y"], 2, "Missing option '--cron'."),
        (["create", "x", " ", "--cron", "* * * * *"], 1, "The text is empty."),
        (["create", "x", "y", "--cron", "never"], 1, "schedule.cron: never fires."),
        (["create", "x", "y", "--cron", "* * * * *", "--missed", "all"], 2, "'all' is not one of"),
        (["update", "x"], 2, "Say what to change."),
        (["get", "x"], 1, f"There is no schedule {_SCHEDULES}/x. (SCHEDULE_NOT_FOUND)"),
    ],
)
async def test_what_is_wrong_is_told(
    commands: Commands, schedules: _Schedules, arguments: list[str], code: int, message: str
) -> None:
    """One line, and nothing is stored."""
    result = await commands.run("schedule", *arguments)
    assert (result.exit_code, schedules.stored) == (code, {})
    assert message in result.stderr
