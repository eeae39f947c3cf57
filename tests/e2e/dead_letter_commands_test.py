"""A dead letter of a real mesh, looked at and put back at the command line."""

import json
import os
import signal

import pytest

from cli.command_mesh import Commands
from meshtest.eventually import eventually
from tests.e2e.running_mesh import Client

pytest_plugins = ["tests.e2e.shared_meshes"]
pytestmark = pytest.mark.asyncio(loop_scope="session")


def _pid(client: Client, name: str) -> int:
    return next(each.pid for each in client.mesh.state.processes if each.name == name)


async def _state(commands: Commands, name: str) -> str:
    found = await commands.run("task", "get", name, "--json")
    return json.loads(found.stdout)["task"]["state"]


async def test_a_dead_letter_is_put_back_and_ends_with_its_answer(staging: Client) -> None:
    """With the models away every attempt fails; once they are back a redrive succeeds."""
    commands = Commands(staging.mesh.address)
    limits = ("max_attempts=1", "step_time_limit=1s")
    assert (await commands.run("queue", "set", "lane", "batch", *limits)).exit_code == 0
    reasoning = _pid(staging, "reasoning")
    os.kill(reasoning, signal.SIGSTOP)
    try:
        tasks = [
            (await staging.submit(f"What is {number} + 1?", lane=3)).name for number in range(3)
        ]

        async def dead() -> bool:
            found = await commands.run("dlq", "list", "--lane", "batch", "--json")
            letters = json.loads(found.stdout)["dead_letters"]
            return {each["task"]["name"] for each in letters} == set(tasks)

        await eventually(dead, 120)
        shown = await commands.run("dlq", "show", tasks[0])
        assert shown.exit_code == 0
        assert "dead letter" in shown.stdout
        watched = await commands.run("task", "watch", tasks[0])
        assert watched.exit_code == 1
    finally:
        os.kill(reasoning, signal.SIGCONT)
    discarded = await commands.run("dlq", "discard", tasks[2], "--comment", "not needed")
    assert discarded.stdout == f"{tasks[2]} was discarded.\n"
    limits = ("max_attempts=100", "step_time_limit=2m")
    assert (await commands.run("queue", "set", "lane", "batch", *limits)).exit_code == 0
    one = await commands.run("dlq", "redrive", tasks[0])
    assert (one.exit_code, one.stdout) == (0, f"{tasks[0]} was put back.\n")
    rest = await commands.run("dlq", "redrive", "--all", "--lane", "batch", "--yes", "--json")
    assert rest.exit_code == 0
    assert {json.loads(line)["task"] for line in rest.stdout.splitlines()} <= {tasks[1]}
    for number, name in enumerate(tasks[:2]):

        async def succeeded(name: str = name) -> bool:
            return await _state(commands, name) == "TASK_STATE_SUCCEEDED"

        await eventually(succeeded, 120)
        assert f"{number} + 1 is {number + 1}" in (await staging.get(name)).output.text
        kinds = [event.WhichOneof("kind") for event in await staging.log(name)]
        assert kinds.count("dead_lettered") == kinds.count("redriven") == 1
    assert await _state(commands, tasks[2]) == "TASK_STATE_DEAD_LETTERED"
    refused = await commands.run("dlq", "redrive", tasks[2])
    assert refused.exit_code == 1
