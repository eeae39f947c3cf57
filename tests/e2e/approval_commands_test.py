"""A tool call that a person must approve, through coordinator, executor and command line.

The model and the tool are the test's: no tool of the mesh requires approval yet.
"""

import json
import shlex
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from agentmesh.common.v1.conversation_pb2 import ROLE_USER, ToolCall, ToolResult
from agentmesh.reasoning.v1 import reasoning_service_pb2 as reasoning
from agentmesh.tool.v1 import tool_pb2, tool_service_pb2
from cli.command_mesh import Commands
from meshtest.eventually import eventually
from meshtest.hosting import hosting
from meshtest.nats_server import NatsServer
from meshtest.scripted import (
    ScriptedGovernor,
    ScriptedReasoning,
    ScriptedTools,
    calls,
    registrations,
    says,
)
from services.coordinator import main as coordinator
from services.coordinator.settings import CoordinatorSettings
from services.executor import main as executor
from services.executor.settings import ExecutorSettings

pytest_plugins = ["meshtest.fixtures"]
pytestmark = pytest.mark.asyncio(loop_scope="module")


class _Payments:
    """The tool: it counts what it paid."""

    def __init__(self) -> None:
        self.paid: list[float] = []

    async def execute(self, request: tool_service_pb2.ExecuteToolRequest) -> ToolResult:
        """Pays."""
        self.paid.append(request.call.arguments.fields["amount"].number_value)
        return ToolResult(call_id=request.call.call_id, tool=request.call.tool, text="paid")


async def _model(request: reasoning.GenerateRequest) -> reasoning.GenerateResponse:
    """Wants to pay each amount that it is told, one after the other, and says what came of it."""
    (asked,) = [each for each in request.messages if each.role == ROLE_USER]
    amounts = [int(word) for word in asked.parts[0].text.split() if word.isdigit()]
    results = [each.tool_result for each in request.messages if each.tool_result.tool]
    if len(results) == len(amounts):
        return says(f"The payment: {', '.join(result.text for result in results)}")
    call = ToolCall(call_id=f"c{len(results)}", tool="effect")
    call.arguments.update({"amount": amounts[len(results)]})
    return calls(call)


@pytest.fixture(scope="module")
def tool() -> _Payments:
    return _Payments()


@pytest.fixture
def payments(tool: _Payments) -> _Payments:
    """The tool, which has paid nothing yet."""
    tool.paid.clear()
    return tool


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def commands(
    shared_nats: NatsServer, tmp_path_factory: pytest.TempPathFactory, tool: _Payments
) -> AsyncIterator[Commands]:
    """Command lines for a coordinator and an executor, with a tool that requires approval."""
    tools: Any = ScriptedTools(tool.execute, tool_pb2.EFFECT_UNSAFE)  # pyright: ignore[reportAbstractUsage]
    tools.tool.requires_approval = True
    async with hosting(
        [
            lambda resources: coordinator.build(resources, CoordinatorSettings()),
            lambda resources: executor.build(resources, ExecutorSettings()),
        ],
        data_dir=tmp_path_factory.mktemp("hosted"),
        nats_url=shared_nats.new_account(),
        beside=registrations(
            tools,
            ScriptedReasoning(_model),  # pyright: ignore[reportAbstractUsage]
            ScriptedGovernor(),  # pyright: ignore[reportAbstractUsage]
        ),
    ) as channels:
        yield Commands(channels.address("gateway"))


async def _task(commands: Commands, name: str) -> dict[str, Any]:
    found = await commands.run("task", "get", name, "--json")
    return json.loads(found.stdout)["task"]


async def _waits(commands: Commands, request: str = "Pay 5 now.") -> str:
    """A task that waits for approval."""
    submitted = await commands.run("task", "submit", request, "--json")
    assert submitted.exit_code == 0, submitted.stderr
    name: str = json.loads(submitted.stdout)["task"]["name"]
    await _waits_for(commands, name, 5)
    return name


async def _waits_for(commands: Commands, name: str, amount: float) -> None:
    """Returns once the task asks whether it may pay `amount`."""

    async def waiting() -> bool:
        call = (await _task(commands, name)).get("wait", {}).get("approval", {}).get("call", {})
        return call.get("arguments") == {"amount": amount}

    await eventually(waiting, 60)


async def _line_that_approves(commands: Commands, name: str) -> list[str]:
    """The words of the command line that a person is shown beside the call."""
    shown = (await commands.run("task", "get", name)).stdout
    (line,) = [each for each in shown.splitlines() if "--approve" in each]
    words = shlex.split(line)
    return words[words.index("task") : words.index("--gateway")]


async def test_an_approved_call_is_made_once(commands: Commands, payments: _Payments) -> None:
    """Nothing is paid before somebody agrees, and the log says who did, and why."""
    name = await _waits(commands)
    shown = (await commands.run("task", "get", name)).stdout
    assert "Waits    for approval of effect(amount=5) (The tool requires approval.)" in shown
    assert "task signal" in shown
    assert payments.paid == []
    approved = await commands.run("task", "signal", name, "--approve", "--comment", "small sum")
    assert approved.exit_code == 0
    watched = await commands.run("task", "watch", name)
    assert watched.exit_code == 0
    assert "approved by user:cli: small sum" in watched.stdout
    assert (await _task(commands, name))["output"]["text"] == "The payment: paid"
    assert payments.paid == [5]


async def test_a_click_for_the_first_call_does_not_approve_the_second(
    commands: Commands, payments: _Payments
) -> None:
    """Ann and Bob look at the first call; Ann is quicker, and Bob is told what it asks by then."""
    name = await _waits(commands, "Pay 5 and 5000 now.")
    ann = await _line_that_approves(commands, name)
    bob = await _line_that_approves(commands, name)
    assert (await commands.run(*ann)).exit_code == 0
    await _waits_for(commands, name, 5000)
    late = await commands.run(*bob)
    assert late.exit_code == 1
    assert "waits for approval of its call of 'effect' by now, at last_sequence" in late.stderr
    assert (await _task(commands, name))["state"] == "TASK_STATE_WAITING"
    assert payments.paid == [5]
    assert (await commands.run(*await _line_that_approves(commands, name))).exit_code == 0
    assert (await commands.run("task", "watch", name)).exit_code == 0
    assert payments.paid == [5, 5000]


async def test_a_rejected_call_is_never_made(commands: Commands, payments: _Payments) -> None:
    """The agent reads the reason, and goes on with it."""
    name = await _waits(commands)
    assert (await commands.run("task", "signal", name, "--reject", "too much")).exit_code == 0
    assert (await commands.run("task", "watch", name)).exit_code == 0
    text = (await _task(commands, name))["output"]["text"]
    assert "rejected this call: too much" in text
    assert payments.paid == []
