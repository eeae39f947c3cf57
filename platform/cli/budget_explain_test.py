"""What budgets make of a call, on the command line."""

# Output is compared line by line, and its lines are as long as they are.
# ruff: noqa: E501

import pytest

from agentmesh.common.v1 import tier_pb2
from agentmesh.governor.v1 import cost_governor_service_pb2 as pb
from cli.command_mesh import Commands
from cli.scripted_governor import TENANT_DAY, ScriptedGovernor

pytest_plugins = ["cli.fixture_governor", "cli.fixture_zone"]

pytestmark = pytest.mark.usefixtures("utc")

_DAY = TENANT_DAY


async def test_a_call_is_explained(commands: Commands, governor: ScriptedGovernor) -> None:
    """The budget that decides is marked, and the decision is said in words."""
    await commands.run(
        "budget", "set", "--task-type", "research", "--window", "month", "--limit", "5"
    )
    governor.spent[_DAY] = (92_000_000, 0)
    result = await commands.run(
        "budget", "explain", "--task-type", "research", "--agent", "assistant",
        "--session", "s1", "--task", "t1", "--tier", "powerful", "--lane", "batch",
    )  # fmt: skip
    lines = result.stdout.splitlines()
    assert [line[:28].rstrip() for line in lines[1:3]] == [
        "   task-type-month-research",
        ">  tenant-day",
    ]
    assert lines[3:] == [
        "",
        "A call that costs next to nothing would be sent to the fast tier, by tenant-day.",
        "92 % of the limit are spent or reserved.",
        "The largest call that still fits: $5.00, by task-type-month-research.",
    ]
    assert governor.explained == [
        pb.ExplainBudgetRequest(
            parent="tenants/default",
            task_type="research",
            agent="assistant",
            session="s1",
            task="tenants/default/tasks/t1",
            tier=tier_pb2.MODEL_TIER_POWERFUL,
            lane=tier_pb2.LANE_BATCH,
        )
    ]


async def test_a_call_without_budgets_is_explained(commands: Commands) -> None:
    """Where nothing limits it, that is said."""
    result = await commands.run("budget", "explain", "--session", "free")
    assert result.stdout == (
        "No budget applies.\nA call that costs next to nothing would be allowed.\n"
    )


async def test_an_agents_call_has_its_name_as_task_type(
    commands: Commands, governor: ScriptedGovernor
) -> None:
    """As a task has that says none."""
    await commands.run("budget", "explain", "--agent", "helper@3")
    await commands.run("budget", "explain", "--agent", "helper", "--task-type", "chat")
    assert [(each.agent, each.task_type) for each in governor.explained] == [
        ("helper@3", "helper"),
        ("helper", "chat"),
    ]


async def test_what_still_fits_is_up_to_the_shutoff(
    commands: Commands, governor: ScriptedGovernor
) -> None:
    """Less what is spent and what calls under way can cost, which may be more than is reserved for
    them; nothing fits where that is beyond it."""
    await commands.run("budget", "set", "--window", "day", "--limit", "9", "--shutoff-at", "50")
    for spent, committed, left in (
        ((1_000_000, 250_000), 250_000, "$3.25"),
        ((1_000_000, 250_000), 3_000_000, "$0.50"),
        ((5_000_000, 0), 0, "$0.00"),
    ):
        governor.spent[_DAY] = spent
        governor.committed[_DAY] = committed
        result = await commands.run("budget", "explain")
        assert result.stdout.splitlines()[-1] == (
            f"The largest call that still fits: {left}, by tenant-day."
        )


@pytest.mark.parametrize(
    ("task", "line"),
    [
        ("t2", "There is no task tenants/default/tasks/t2. (TASK_NOT_FOUND) See `agentmesh task list` for the tasks there are."),
        ("tenants/acme/tasks/t1", "user:cli acts for tenant default, not for 'tenants/acme/tasks/t1'. (FORBIDDEN)"),
    ],
)  # fmt: skip
async def test_no_call_is_explained_of_a_task_that_is_not_there(
    commands: Commands, governor: ScriptedGovernor, task: str, line: str
) -> None:
    """Whose cap it is would be made up; the coordinator knows."""
    result = await commands.run("budget", "explain", "--task", task)
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", f"error: {line}\n")
    assert not governor.explained


async def test_when_to_come_back_is_said_once(commands: Commands) -> None:
    """Where the service has said it, nothing is added but what to look at."""
    result = await commands.run("budget", "explain", "--session", "fast")
    assert result.stderr == (
        "error: Too fast. Try again in 1 s. (RATE_LIMITED)"
        " See `agentmesh queue policy` for the limits.\n"
    )
