"""Budgets on the command line."""

# Tables of cases have one case a line.
# ruff: noqa: E501

import json

import pytest

from agentmesh.governor.v1 import budget_pb2
from agentmesh.governor.v1 import cost_governor_service_pb2 as pb
from cli.command_mesh import Commands
from cli.scripted_governor import TENANT_DAY, ScriptedGovernor

pytest_plugins = ["cli.fixture_governor", "cli.fixture_zone"]

pytestmark = pytest.mark.usefixtures("utc")

_DAY = TENANT_DAY
_RESEARCH = "tenants/default/budgets/task-type-month-research"


async def test_a_new_budget_is_set_with_everything_that_is_given(
    commands: Commands, governor: ScriptedGovernor
) -> None:
    """Dollars, percentages and the zone arrive; a call that breaks could be repeated."""
    result = await commands.run(
        "budget", "set", "--task-type", "research", "--window", "month", "--limit", "25.50",
        "--alert-at", "80", "--degrade-at", "90%", "--throttle-at", "off", "--shutoff-at", "100",
        "--time-zone", "Europe/Berlin",
    )  # fmt: skip
    assert (result.exit_code, result.stderr) == (0, "")
    made = governor.stored[_RESEARCH]
    assert (made.scope, made.subject) == (budget_pb2.BUDGET_SCOPE_TASK_TYPE, "research")
    assert (made.window, made.time_zone) == (budget_pb2.BUDGET_WINDOW_MONTH, "Europe/Berlin")
    assert made.limit_micros == 25_500_000
    assert made.thresholds == budget_pb2.BudgetThresholds(
        alert_percent=80, degrade_percent=90, shutoff_percent=100
    )
    assert governor.request_ids[0].startswith("cli-")


@pytest.mark.parametrize(
    ("arguments", "name", "scope", "subject"),
    [
        (["--window", "day"], _DAY, budget_pb2.BUDGET_SCOPE_TENANT, ""),
        (
            ["--global", "--window", "month"],
            "budgets/global-month",
            budget_pb2.BUDGET_SCOPE_GLOBAL,
            "",
        ),
        (
            ["--agent", "assistant", "--window", "day"],
            "tenants/default/budgets/agent-day-assistant",
            budget_pb2.BUDGET_SCOPE_AGENT,
            "assistant",
        ),
        (
            ["--session", "s1"],
            "tenants/default/budgets/session-lifetime-s1",
            budget_pb2.BUDGET_SCOPE_SESSION,
            "s1",
        ),
    ],
)
async def test_options_name_the_budget(
    commands: Commands,
    governor: ScriptedGovernor,
    arguments: list[str],
    name: str,
    scope: budget_pb2.BudgetScope,
    subject: str,
) -> None:
    """Whose it is and its window make its name, for reading and for writing."""
    result = await commands.run("budget", "set", *arguments, "--limit", "$3")
    assert (result.exit_code, result.stderr) == (0, "")
    stored = governor.stored[name]
    assert (stored.scope, stored.subject, stored.limit_micros) == (scope, subject, 3_000_000)
    shown = await commands.run("budget", "get", *arguments, "--json")
    assert json.loads(shown.stdout)["status"]["budget"]["name"] == name


async def test_what_is_not_named_stays(commands: Commands, governor: ScriptedGovernor) -> None:
    """What the tenant's tier gives is the beginning of a stored budget, and that of the next."""
    assert (
        await commands.run("budget", "set", "--window", "day", "--alert-at", "50")
    ).exit_code == 0
    assert (await commands.run("budget", "set", "--window", "day", "--limit", "7")).exit_code == 0
    stored = governor.stored[_DAY]
    assert (stored.limit_micros, stored.thresholds.alert_percent) == (7_000_000, 50)


async def test_a_change_is_made_again_on_top_of_another(
    commands: Commands, governor: ScriptedGovernor
) -> None:
    """Neither is lost, and each write has an id of its own."""
    await commands.run("budget", "set", "--window", "day", "--limit", "7")
    governor.others = 2
    result = await commands.run("budget", "set", "--window", "day", "--limit", "8")
    assert result.exit_code == 0
    stored = governor.stored[_DAY]
    assert (stored.limit_micros, stored.thresholds.throttle_percent) == (8_000_000, 95)
    assert len(set(governor.request_ids)) == len(governor.request_ids)


async def test_the_first_change_is_made_again_on_top_of_another(
    commands: Commands, governor: ScriptedGovernor
) -> None:
    """Also where both begin with what the tier gives, which has no etag."""
    governor.others = 1
    result = await commands.run("budget", "set", "--window", "day", "--limit", "8")
    assert result.exit_code == 0
    stored = governor.stored[_DAY]
    assert (stored.limit_micros, stored.thresholds.throttle_percent) == (8_000_000, 95)


async def test_with_an_etag_another_change_is_told(
    commands: Commands, governor: ScriptedGovernor
) -> None:
    """Who names what he read decides himself what to do then."""
    await commands.run("budget", "set", "--window", "day", "--limit", "7")
    result = await commands.run("budget", "set", "--window", "day", "--limit", "8", "--etag", "9")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"error: {_DAY} has changed. (CONFLICT)\n"
    assert governor.stored[_DAY].limit_micros == 7_000_000


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["set", "--window", "day"], "Say what to set, such as --limit 25. See `agentmesh budget set --help`."),
        (["set", "--limit", "5"], "Say what it is for: --window day or --window month."),
        (["set", "--session", "s1", "--window", "day", "--limit", "5"], "A session's budget is for all of its time: leave --window away."),
        (["set", "--global", "--agent", "a", "--window", "day", "--limit", "5"], "--global, --task-type, --agent and --session each name a budget: give one."),
        (["set", "--agent", "", "--window", "day", "--limit", "5"], "Invalid value for '--agent': it is empty; give a value, or leave the option away. See `agentmesh budget set --help`."),
        (["set", "--agent", "Helper@3", "--window", "day", "--limit", "5"], "--agent must be 1 to 63 lower-case letters, digits or hyphens, no hyphen first, and no version, not 'Helper@3'."),
        (["set", "--task-type", "a b", "--window", "day", "--limit", "5"], "--task-type must be 1 to 63 letters, digits or any of . _ -, a letter or digit first, not 'a b'."),
        (["set", "--session", "-s", "--limit", "5"], "--session must be 1 to 128 letters, digits or any of _ ~ : -, a letter or digit first, not '-s'."),
        (["set", "--window", "day", "--limit", "9000000000.000001"], "Invalid value for '--limit': The most is 9000000000 dollars, not 9000000000.000001. See `agentmesh budget set --help`."),
        (["set", "--window", "day", "--limit", "90000000000"], "Invalid value for '--limit': The most is 9000000000 dollars, not 90000000000. See `agentmesh budget set --help`."),
        (["set", "--window", "day", "--limit", "0.0000001"], "Invalid value for '--limit': '0.0000001' has more than six decimals. See `agentmesh budget set --help`."),
        (["set", "--window", "day", "--limit", "0.00"], "Invalid value for '--limit': '0.00' is no amount of dollars over zero, such as 0.05 or 2. See `agentmesh budget set --help`."),
        (["set", "--window", "day", "--alert-at", "2000"], "Invalid value for '--alert-at': A percentage is from 0 to 100, not 2000. See `agentmesh budget set --help`."),
        (["set", "--window", "day", "--shutoff-at", "off"], "Invalid value for '--shutoff-at': A budget refuses calls from 100 percent on, if not from less: it cannot be off. For a budget that only tells, set a limit that is not reached, and --alert-at. See `agentmesh budget set --help`."),
        (["set", "--window", "day", "--limit", "-5"], "Invalid value for '--limit': '-5' is no amount of dollars over zero, such as 0.05 or 2. See `agentmesh budget set --help`."),
        (["set", "--window", "day", "--limit", "5 EUR"], "Invalid value for '--limit': '5 EUR' is no amount of dollars over zero, such as 0.05 or 2. See `agentmesh budget set --help`."),
        (["set", "--window", "day", "--alert-at", "8.5"], "Invalid value for '--alert-at': '8.5' is no whole percentage from 0 to 100, such as 80, or off. See `agentmesh budget set --help`."),
        (["set", "--window", "week", "--limit", "5"], "Invalid value for '--window': 'week' is not one of 'day', 'month'. See `agentmesh budget set --help`."),
        (["set", "--session", "new", "--alert-at", "80"], "There is no budget tenants/default/budgets/session-lifetime-new yet: a new one needs --limit."),
        (["get"], "Say which budget: its name, as `agentmesh budget list` shows it, or whose it is, such as --window day."),
        (["get", "tenant-day", "--window", "day"], "Give the budget's name, or options that say whose it is."),
    ],
)  # fmt: skip
async def test_what_makes_no_budget_is_refused(
    commands: Commands, arguments: list[str], line: str
) -> None:
    """One line says what to give instead, and nothing is written."""
    result = await commands.run("budget", *arguments)
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", f"error: {line}\n")


async def test_the_largest_limit_is_taken(commands: Commands, governor: ScriptedGovernor) -> None:
    """To the millionth of a dollar."""
    await commands.run("budget", "set", "--window", "day", "--limit", "9000000000")
    assert governor.stored[_DAY].limit_micros == 9_000_000_000_000_000
    await commands.run("budget", "set", "--window", "day", "--limit", "0.000001")
    assert governor.stored[_DAY].limit_micros == 1


@pytest.mark.parametrize("option", ["--etag", "--tenant", "--time-zone", "--data-dir"])
async def test_an_empty_value_drops_no_guard(
    commands: Commands, governor: ScriptedGovernor, option: str
) -> None:
    """A shell variable that is not set is wrong usage, wherever it stands."""
    set_it = ("budget", "set", "--window", "day", "--limit", "5")
    result = await commands.run(*set_it, option, "")
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"Invalid value for '{option}': it is empty; give a value" in result.stderr
    assert not governor.request_ids


async def test_an_empty_value_before_the_command_is_one_too(
    commands: Commands, governor: ScriptedGovernor
) -> None:
    """The options of all commands may stand there."""
    result = await commands.run("--tenant", "", "budget", "delete", "tenant-day")
    assert (result.exit_code, result.stdout, governor.deleted) == (2, "", [])


async def test_the_refusal_of_the_governor_is_told(commands: Commands) -> None:
    """What the limits and thresholds may be, the governor alone says."""
    result = await commands.run(
        "budget", "set", "--window", "day", "--alert-at", "90", "--degrade-at", "80"
    )
    assert result.exit_code == 1
    assert result.stderr == (
        "error: budget.thresholds.degrade_percent: must rise. (INVALID_FIELD)\n"
    )


async def test_a_budget_that_is_not_there_is_told(commands: Commands) -> None:
    """With the command that lists those there are."""
    result = await commands.run("budget", "get", "global-day")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        "error: There is no budget budgets/global-day. (BUDGET_NOT_FOUND)"
        " See `agentmesh budget list` for the budgets there are.\n"
    )


async def test_a_budget_is_shown_with_what_its_thresholds_mean(
    commands: Commands, governor: ScriptedGovernor
) -> None:
    """Percentages are told in dollars, too; a threshold that is off is said to be."""
    await commands.run(
        "budget", "set", "--window", "day", "--limit", "20", "--alert-at", "80",
        "--degrade-at", "90",
    )  # fmt: skip
    governor.spent[_DAY] = (16_000_000, 1_000_000)
    result = await commands.run("budget", "get", "tenant-day")
    assert result.stdout.splitlines() == [
        f"Budget       {_DAY}",
        "Limits       tenant",
        "Window       day (UTC)",
        "Limit        $20.00",
        "Spent        $16.00",
        "Reserved     $1.00",
        "Left         $3.00",
        "Used         " + "█" * 32 + "▓▓" + "░" * 6 + " 85 %",
        "State        alert",
        "Alert at     80 % ($16.00)",
        "Degrade at   90 % ($18.00)",
        "Throttle at  off",
        "Shut off at  100 % ($20.00)",
        "Began        2026-11-20 00:00:00 +00:00",
        "Resets       2026-11-21 00:00:00 +00:00",
        "Set          2026-11-20 12:00:00 +00:00",
        "Etag         1",
    ]


async def test_budgets_are_listed_over_all_pages(
    commands: Commands, governor: ScriptedGovernor
) -> None:
    """Each with a bar of what is spent and reserved, its state, and when it starts again."""
    await commands.run("budget", "set", "--session", "s1", "--limit", "2")
    await commands.run(
        "budget", "set", "--window", "day", "--throttle-at", "50", "--shutoff-at", "60"
    )
    governor.spent["tenants/default/budgets/session-lifetime-s1"] = (1_000, 0)
    governor.spent[_DAY] = (50_000_000, 10_000_000)
    result = await commands.run("budget", "list")
    assert result.stdout.splitlines() == [
        "BUDGET                SPENT  RESERVED    LIMIT  USED               STATE     RESETS",
        "session-lifetime-s1  $0.001     $0.00    $2.00  █░░░░░░░░░░░ <1 %  ok        never",
        "tenant-day           $50.00    $10.00  $100.00  ██████▓░░░░░ 60 %  shut off  2026-11-21 00:00:00 +00:00",
    ]
    assert governor.parents == ["tenants/default"] * 2


async def test_a_list_of_budgets_that_is_cut_says_so(commands: Commands) -> None:
    """Whoever looks for the tenant's own, which come last, does not take them for not there."""
    await commands.run("budget", "set", "--session", "s1", "--limit", "2")
    for limit, told in (("1", "These are the first 1; --limit shows more.\n"), ("2", "")):
        result = await commands.run("budget", "list", "--limit", limit)
        assert len(result.stdout.splitlines()) == 1 + int(limit)
        assert result.stderr == told


async def test_all_tenants_budgets_are_listed_for_operators(
    commands: Commands, governor: ScriptedGovernor
) -> None:
    """The wildcard goes to the governor, which says who may; JSON has all fields."""
    result = await commands.run("budget", "list", "--all-tenants", "--json")
    assert governor.parents == ["tenants/-"]
    (status,) = json.loads(result.stdout)["statuses"]
    assert status["budget"]["limit_micros"] == 100_000_000
    assert status["spent_micros"] == 0


async def test_a_budget_is_deleted(commands: Commands, governor: ScriptedGovernor) -> None:
    """By name or by whose it is, and only where it has not changed if an etag is given."""
    result = await commands.run("budget", "delete", "tenant-day", "--etag", "4")
    assert result.stdout == f"{_DAY} is deleted.\n"
    assert governor.deleted == [pb.DeleteBudgetRequest(name=_DAY, etag="4")]


async def test_help_teaches_by_example(commands: Commands) -> None:
    """The examples stand as they can be pasted."""
    result = await commands.run("budget", "set", "--help")
    assert "agentmesh budget set --window day --limit 25\n" in result.stdout


async def test_a_governor_that_hangs_is_named_soon(
    commands: Commands, governor: ScriptedGovernor
) -> None:
    """After four seconds, and the gateway, which has nothing to do with it, is not blamed."""
    governor.hangs = True
    result = await commands.run("budget", "list")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        "error: The governor did not answer"
        " /agentmesh.governor.v1.CostGovernorService/ListBudgets within 4 seconds."
        " (DEADLINE_EXCEEDED) See `agentmesh status` for what is slow or down.\n"
    )
