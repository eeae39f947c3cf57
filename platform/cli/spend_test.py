"""Spending on the command line."""

# Output is compared line by line, and its lines are as long as they are.
# ruff: noqa: E501

import json
import os
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agentmesh.governor.v1 import cost_governor_service_pb2 as pb
from cli import spend_calls
from cli.command_mesh import Commands
from cli.scripted_governor import METHOD, ScriptedGovernor

pytest_plugins = ["cli.fixture_governor", "cli.fixture_zone"]

pytestmark = pytest.mark.usefixtures("utc")


def _names(folder: Path) -> list[str]:
    return [each.name for each in folder.iterdir()]


async def test_the_overview_tells_where_spending_stands_and_leads(commands: Commands) -> None:
    """Windows against limits, the last days as columns, and when the limit will be reached."""
    result = await commands.run("spend")
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[:4] == [
        "WINDOW       SPENT  RESERVED  LIMIT  USED               BY ITS END  RESETS",
        "today        $3.00     $1.00  $8.00  ████▓▓░░░░░░ 50 %       $9.10  2026-11-21 00:00:00 +00:00",
        "this month  $42.00     $0.00   none  -                      $60.00  2026-12-01 00:00:00 +00:00",
        "",
    ]
    assert lines[4] == "$3.00 |" + " " * 39 + "█"
    assert lines[5:8] == ["      |" + " " * 39 + "█"] * 3
    assert lines[8].endswith(datetime.now(UTC).date().isoformat())
    assert lines[9:] == [
        "",
        "Today: 7 model calls, 12,000 tokens in, 900 out.",
        "The limit of today is reached at 2026-11-20 21:00:00 +00:00 if spending goes on like this.",
        f"By the end of today: {METHOD}",
        "This month: 0 model calls, 0 tokens in, 0 out.",
        f"By the end of this month: {METHOD}",
    ]


async def test_without_the_ledger_the_counters_are_shown(
    commands: Commands, governor: ScriptedGovernor
) -> None:
    """What is known is told, and what is missing and why."""
    governor.ledger_away = True
    result = await commands.run("spend")
    assert result.exit_code == 0
    assert [line.split(" ")[0] for line in result.stdout.splitlines()] == [
        "WINDOW", "today", "this", "", "Today:", "This",
    ]  # fmt: skip
    assert result.stderr == (
        "Projections and earlier days are left out: The ledger cannot be reached.\n"
    )
    document = json.loads((await commands.run("spend", "--json")).stdout)
    assert sorted(document) == ["day", "month"]


async def test_the_overview_as_json_has_everything(commands: Commands) -> None:
    """For scripts: the windows, what they will have cost, and the days."""
    document = json.loads((await commands.run("spend", "--json")).stdout)
    assert document["day"]["spent_micros"] == 3_000_000
    assert document["projection"]["day"]["projected_micros"] == 9_100_000
    assert document["days"][0]["usage"]["cost_micros"] == 3_000_000


async def test_groups_and_times_are_asked_for_as_given(
    commands: Commands, governor: ScriptedGovernor
) -> None:
    """Outermost first, from the time on; what they cost together is told beside them."""
    result = await commands.run("spend", "--by", "model,tier", "--since", "2026-11-01")
    assert result.stderr == "Spent $4.00 from 2026-11-01 00:00:00 +00:00.\n"
    assert governor.queries[0].parent == "tenants/default"
    assert list(governor.queries[0].group_by) == [
        pb.SPEND_DIMENSION_MODEL,
        pb.SPEND_DIMENSION_TIER,
    ]
    assert governor.queries[0].start_time.ToJsonString() == "2026-11-01T00:00:00Z"
    assert not governor.queries[0].HasField("end_time")


async def test_groups_are_shown_dearest_first_over_all_pages(commands: Commands) -> None:
    """With shares and costs of tasks. What has no name is a dash, and so is a mean of nothing."""
    result = await commands.run("spend", "--by", "model")
    assert result.stdout.splitlines() == [
        "MODEL               COST  SHARE              MODEL CALLS  TOKENS IN  TOKENS OUT  TASKS  PER TASK  PER SUCCESS",
        "claude-sonnet-4-5  $3.00  ████████████ 75 %           10      2,000         300      2     $1.50        $3.00",
        "gpt-5-mini         $1.00  ████░░░░░░░░ 25 %           10      2,000         300      4     $0.25            -",
        "-                  $0.00  ░░░░░░░░░░░░ 0 %            10      2,000         300      0         -            -",
    ]


async def test_hardly_anything_has_a_share_without_a_bar(commands: Commands) -> None:
    """It is not nothing, and not a twelfth either."""
    result = await commands.run("spend", "--by", "agent")
    assert re.findall(r"[█░]+ \S+ %", result.stdout) == [
        "████████████ 100 %",
        "░░░░░░░░░░░░ <1 %",
    ]


async def test_a_time_alone_is_told_in_one_sum(
    commands: Commands, governor: ScriptedGovernor
) -> None:
    """With how to see more of it."""
    result = await commands.run("spend", "--since", "2026-11-01", "--until", "2026-11-08")
    assert result.stdout.splitlines() == [
        "Spent $4.00 from 2026-11-01 00:00:00 +00:00 to 2026-11-08 00:00:00 +00:00, in 10 model calls.",
        "Say --by day, or --by model, for more.",
    ]
    assert not governor.queries[0].group_by


@pytest.mark.parametrize(
    ("micros", "shown"),
    [(1, "$0.000001"), (12_345, "$0.01235"), (9_123_456, "$9.123"), (1_234_567_890, "$1,234.57")],
)
async def test_what_is_expected_is_told_roughly(
    commands: Commands, governor: ScriptedGovernor, micros: int, shown: str
) -> None:
    """To four digits, and large amounts to the cent."""
    governor.projected_micros = micros
    result = await commands.run("spend")
    assert f" {shown}  " in result.stdout.splitlines()[1]


async def test_operators_see_who_spends_what(
    commands: Commands, governor: ScriptedGovernor
) -> None:
    """All tenants together are grouped by tenant where nothing else is said."""
    result = await commands.run("spend", "--all-tenants", "--until", "2099-01-01", "--json")
    assert len(json.loads(result.stdout)["rows"]) == 3
    query = governor.queries[0]
    assert (query.parent, list(query.group_by)) == ("tenants/-", [pb.SPEND_DIMENSION_TENANT])
    assert query.end_time.ToJsonString() == "2099-01-01T00:00:00Z"


async def test_a_limit_cuts_and_says_so(
    commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who sees a part is told that it is one: of the dearest, and of the sum of all."""
    result = await commands.run("spend", "--by", "model", "--limit", "1", "--since", "2026-11-01")
    assert [line.split()[:2] for line in result.stdout.splitlines()[1:]] == [
        ["claude-sonnet-4-5", "$3.00"]
    ]
    assert " 75 % " in result.stdout
    assert result.stderr == (
        "Spent $4.00 from 2026-11-01 00:00:00 +00:00.\n"
        "These are the first 1 of 3; --limit shows more.\n"
    )
    result = await commands.run("spend", "--by", "model", "--limit", "1", "--json")
    assert [each["group"] for each in json.loads(result.stdout)["rows"]] == [["claude-sonnet-4-5"]]
    whole = await commands.run("spend", "--by", "model", "--limit", "3")
    assert "--limit" not in whole.stderr
    monkeypatch.setattr(spend_calls, "_READ_GROUPS", 2)
    part = await commands.run("spend", "--by", "model", "--limit", "1")
    assert part.stderr.splitlines()[1] == (
        "There are more than 2 groups; these, and the sum, are of the first 2 by name: --limit or a shorter time shows all."
    )


async def test_entries_are_exported_to_a_file(
    commands: Commands, governor: ScriptedGovernor, tmp_path: Path
) -> None:
    """Part by part, in the format asked for."""
    file = tmp_path / "spend.csv"
    result = await commands.run("spend", "--export", "csv", str(file), "--since", "2026-11-01")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == f"{file}: 21 bytes.\n"
    assert file.read_bytes() == b"tenant,key\ndefault,a\n"
    (request,) = governor.exports
    assert (request.parent, request.format) == ("tenants/default", pb.SPEND_FORMAT_CSV)
    assert request.start_time.ToJsonString() == "2026-11-01T00:00:00Z"


async def test_entries_are_exported_to_stdout(commands: Commands) -> None:
    """With nothing around them."""
    result = await commands.run("spend", "--export", "parquet", "-")
    assert (result.stdout_bytes, result.stderr) == (b"tenant,key\ndefault,a\n", "")


async def test_pipes_and_links_stay_what_they_are(commands: Commands, tmp_path: Path) -> None:
    """So do devices: what is no file is not replaced by a file."""
    pipe, link, file = tmp_path / "pipe", tmp_path / "link", tmp_path / "spend.csv"
    os.mkfifo(pipe)
    link.symlink_to(file)
    file.write_text("before")
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    for name in (pipe, link):
        result = await commands.run("spend", "--export", "csv", str(name))
        assert (result.exit_code, result.stderr) == (0, f"{name}: 21 bytes.\n")
    assert (pipe.is_fifo(), link.is_symlink()) == (True, True)
    assert os.read(reader, 100) == file.read_bytes() == b"tenant,key\ndefault,a\n"
    os.close(reader)
    assert sorted(_names(tmp_path)) == ["link", "pipe", "spend.csv"]


async def test_an_export_that_breaks_leaves_what_was_there(
    commands: Commands, governor: ScriptedGovernor, tmp_path: Path
) -> None:
    """A file is complete or is not there; half of the money is nobody's report."""
    file = tmp_path / "spend.csv"
    file.write_text("before")
    governor.breaks_after = 1
    result = await commands.run("spend", "--export", "csv", str(file))
    assert result.exit_code == 1
    assert result.stderr.startswith("error: The ledger went away. (DEPENDENCY_UNAVAILABLE)")
    assert _names(tmp_path) == ["spend.csv"]
    assert file.read_text() == "before"


async def test_a_file_that_cannot_be_written_is_named_as_given(
    commands: Commands, governor: ScriptedGovernor, tmp_path: Path
) -> None:
    """A directory is told before anything is asked for."""
    file = tmp_path / "no" / "spend.csv"
    result = await commands.run("spend", "--export", "csv", str(file))
    assert (result.exit_code, result.stderr) == (1, f"error: {file}: No such file or directory.\n")
    asked = len(governor.exports)
    result = await commands.run("spend", "--export", "csv", str(tmp_path))
    assert (result.exit_code, result.stderr) == (
        2,
        f"error: {tmp_path} is a directory: name a file to write to.\n",
    )
    assert (len(governor.exports), _names(tmp_path)) == (asked, [])


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ["--by", "colour"],
            "Invalid value for '--by': 'colour' is none of task-type, agent, model, tier, day, hour, tenant. See `agentmesh spend --help`.",
        ),
        (
            ["--by", "day,day"],
            "Invalid value for '--by': day is given twice. See `agentmesh spend --help`.",
        ),
        (
            ["--by", "day", "--since", "soon"],
            "Invalid value for '--since': 'soon' is no time, such as 7d (ago), today, month, 2026-11-20 or 2026-11-20T14:30. See `agentmesh spend --help`.",
        ),
        (
            ["--by", "day", "--since", "2026-11-02", "--until", "2026-11-01"],
            "--until must be after --since.",
        ),
        (["--by", "day", "--export", "csv", "x"], "--export writes every entry: leave --by away."),
        (
            ["--export", "xls", "x"],
            "Invalid value for '--export': 'xls' is not one of 'csv', 'parquet', 'arrow'. See `agentmesh spend --help`.",
        ),
    ],
)
async def test_what_cannot_be_shown_is_refused(
    commands: Commands, arguments: list[str], line: str
) -> None:
    """One line says what to give instead."""
    result = await commands.run("spend", *arguments)
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", f"error: {line}\n")
