"""Tasks that wait for people, times and other tasks, followed and answered at the command line."""

import itertools
import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from cli.command_mesh import Commands
from meshtest.eventually import eventually
from tests.e2e.running_mesh import Client

pytest_plugins = ["tests.e2e.shared_meshes"]
pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.fixture(scope="module")
def tenants() -> Iterator[str]:
    """Those of the tests, one after the other."""
    return (f"patient-{number}" for number in itertools.count())


@pytest_asyncio.fixture(loop_scope="session")
async def commands(prototype: Client, tenants: Iterator[str]) -> Commands:
    """Command lines of a tenant with an agent that may wait."""
    commands = Commands(prototype.mesh.address, next(tenants))
    tools = ("ask_person", "wait", "delegate", "calculator", "current_time")
    await _document(
        commands, "agent", "create", "helper", "--instructions", "Help.",
        *(word for tool in tools for word in ("--tool", tool)),
    )  # fmt: skip
    return commands


async def _document(commands: Commands, *arguments: str) -> dict[str, Any]:
    result = await commands.run(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


async def _submit(commands: Commands, text: str, *options: str) -> str:
    document = await _document(commands, "task", "submit", text, "--agent", "helper", *options)
    return document["task"]["name"]


async def _get(commands: Commands, name: str) -> dict[str, Any]:
    return await _document(commands, "task", "get", name)


async def _reaches(commands: Commands, name: str, state: str) -> dict[str, Any]:
    async def reached() -> bool:
        return (await _get(commands, name))["task"]["state"] == f"TASK_STATE_{state}"

    await eventually(reached, 60)
    return await _get(commands, name)


async def test_a_question_is_listed_answered_and_used(commands: Commands) -> None:
    """The person's words are in the task's answer, and in its log with who said them."""
    name = await _submit(commands, "Ask me which colour the logo should have.")
    waiting = (await _reaches(commands, name, "WAITING"))["task"]
    assert waiting["wait"]["input"]["question"] == "Which colour the logo should have?"

    async def listed() -> bool:
        found = await _document(commands, "task", "list", "--waiting")
        return [each["name"] for each in found["tasks"]] == [name]

    await eventually(listed, 60)
    signalled = await commands.run("task", "signal", name, "--input", "blue", "--request-id", "r")
    assert signalled.stdout.startswith(f"{name} is answered; it is ")
    ended = (await _reaches(commands, name, "SUCCEEDED"))["task"]
    assert ended["output"]["text"] == ("“Which colour the logo should have?” was answered: blue.")
    again = await commands.run("task", "signal", name, "--input", "blue", "--request-id", "r")
    assert again.exit_code == 0
    other = await commands.run("task", "signal", name, "--input", "red")
    assert other.exit_code == 1
    assert "(TASK_STATE)" in other.stderr


async def test_what_follows_a_wait_comes_after_it(commands: Commands) -> None:
    """Watching shows the wait begin and end; the answer has the time after it."""
    name = await _submit(commands, "Wait 1 second, then tell me the time.")
    watched = await commands.run("task", "watch", name)
    assert watched.exit_code == 0
    kinds = [line.split()[3] for line in watched.stdout.splitlines()]
    assert kinds[3:6] == ["waiting", "resumed", "started"]
    ended = (await _get(commands, name))["task"]
    assert ended["output"]["text"].startswith("I waited 1 second. It is ")


async def test_two_children_answer_for_their_parent(commands: Commands) -> None:
    """The parent shows them while it waits, and has their answers and their cost in the end."""
    name = await _submit(commands, "Delegate: What is 2 + 2?; What is 3 * 3?", "--label", "run=7")
    ended = (await _reaches(commands, name, "SUCCEEDED"))["task"]
    assert ended["output"]["text"] == (
        "1. What is 2 + 2? → 2 + 2 is 4.\n2. What is 3 * 3? → 3 * 3 is 9."
    )

    async def listed() -> bool:
        found = await _document(commands, "task", "list", "--label", "run=7")
        return len(found["tasks"]) == 3

    await eventually(listed, 60)
    found = (await _document(commands, "task", "list", "--label", "run=7"))["tasks"]
    children = [each for each in found if each["parent_task"] == name]
    assert [each["state"] for each in children] == ["TASK_STATE_SUCCEEDED"] * 2
    own_calls = 2
    assert ended["usage"]["model_calls"] == own_calls + sum(
        each["usage"]["model_calls"] for each in children
    )


async def test_a_parent_waits_for_a_child_that_a_person_must_answer(commands: Commands) -> None:
    """The child's state is shown with the parent; cancelling the parent cancels the child."""
    name = await _submit(commands, "Ask me for a name.")
    await _reaches(commands, name, "WAITING")
    child = await _submit(commands, "Ask me for a place.", "--parent", name)
    await _reaches(commands, child, "WAITING")
    assert (await commands.run("task", "cancel", name)).exit_code == 0
    ended = (await _reaches(commands, child, "CANCELLED"))["task"]
    assert ended["parent_task"] == name


async def test_a_batch_is_accepted_line_by_line(commands: Commands, tmp_path: Path) -> None:
    """Refused lines are told; the same file again starts nothing twice."""
    file = tmp_path / "tasks.jsonl"
    lines = [json.dumps({"text": f"What is {number} + 1?"}) for number in range(20)]
    file.write_text("\n".join([*lines, '{"text": "x", "agent": "nobody"}']))
    arguments = ("task", "submit", "--batch", str(file), "--request-id", "import", "--json")
    first = await commands.run(*arguments)
    assert first.exit_code == 1
    results = {line["line"]: line for line in map(json.loads, first.stdout.splitlines())}
    assert sorted(results) == list(range(1, 22))
    assert results[21]["error"]["reason"] == "AGENT_NOT_FOUND"
    again = await commands.run(*arguments)
    names = {
        line["line"]: line["task"]["name"]
        for line in map(json.loads, again.stdout.splitlines())
        if "task" in line
    }
    assert names == {number: results[number]["task"]["name"] for number in range(1, 21)}
    ended = [await _reaches(commands, names[number], "SUCCEEDED") for number in (1, 20)]
    assert "19 + 1 is 20" in ended[1]["task"]["output"]["text"]


async def test_limits_change_while_the_mesh_runs(commands: Commands, tmp_path: Path) -> None:
    """A lane's time limit holds for the next task, a tenant's rate for the next second."""
    old = tmp_path / "policy.yaml"
    old.write_text((await commands.run("queue", "policy")).stdout.replace("weight: 4", "weight: 5"))
    lane = await commands.run("queue", "set", "lane", "batch", "time_limit=7m")
    assert lane.stdout == "~ lanes.batch.time_limit: 10m → 7m\n"
    name = await _submit(commands, "What is 1 + 1?", "--lane", "batch")
    task = (await _get(commands, name))["task"]
    created, deadline = (
        datetime.fromisoformat(task[field]) for field in ("create_time", "deadline")
    )
    assert deadline - created == timedelta(minutes=7)
    await commands.run("queue", "set", "tier", "free", "submits_per_second=0.001", "submit_burst=1")
    await commands.run("queue", "set", "tenant", commands.tenant, "--tier", "free")
    answers = [
        await commands.run("task", "submit", "What is 1 + 1?", "--agent", "helper")
        for _ in range(2)
    ]
    assert [answer.exit_code for answer in answers] == [0, 1]
    assert "(RATE_LIMITED)" in answers[1].stderr
    stats = await _document(commands, "queue", "stats")
    assert [lane["max_queued"] for lane in stats["lanes"]] == [1000] * 3
    # A file made from the built-in policy must not undo what was set since.
    stale = await commands.run("queue", "apply", str(old))
    assert stale.exit_code == 1
    assert "(CONFLICT)" in stale.stderr
    back = await commands.run("queue", "set", "tenant", commands.tenant, "--default")
    assert back.exit_code == 0
    await _submit(commands, "What is 1 + 1?")


async def test_a_schedule_knows_its_next_run(commands: Commands) -> None:
    """In its own zone; paused it has none; expressions that never come are refused."""
    created = await _document(
        commands, "schedule", "create", "new-year", "What is 1 + 1?", "--cron", "30 0 1 1 *",
        "--time-zone", "Asia/Tokyo",
    )  # fmt: skip
    assert created["schedule"]["next_run_time"].endswith("-12-31T15:30:00Z")
    paused = await _document(commands, "schedule", "pause", "new-year")
    assert "next_run_time" not in paused["schedule"]
    resumed = await _document(commands, "schedule", "resume", "new-year")
    assert resumed["schedule"]["next_run_time"] == created["schedule"]["next_run_time"]
    never = await commands.run("schedule", "create", "never", "x", "--cron", "0 0 30 2 *")
    assert never.exit_code == 1
    assert "schedule.cron" in never.stderr
    assert (await commands.run("schedule", "delete", "new-year")).exit_code == 0
    assert (await _document(commands, "schedule", "list"))["schedules"] == []
