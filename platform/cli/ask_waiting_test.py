"""`ask` where the agent needs a person: in a terminal, and without one."""

import asyncio
import json
import os
import pty
import re
import signal
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

from agentmesh.coordinator.v1 import coordinator_service_pb2 as pb
from agentmesh.coordinator.v1.coordinator_service_pb2_grpc import CoordinatorServiceServicer
from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent, TaskSignal
from agentmesh.coordinator.v1.task_pb2 import Task, TaskState, TaskWait
from cli.command_mesh import Commands, commands_for
from meshkit.errors import TaskStateError

_NAME = "tenants/default/tasks/t1"
_PROGRAM = "from cli.app import app; app.main(prog_name='agentmesh')"
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class _Coordinator(CoordinatorServiceServicer):
    """A task that waits until it is signalled, and says then what it was told."""

    def __init__(self) -> None:
        self.wait = TaskWait(call_id="c1")
        self.asked: list[Task] = []
        self.signal: TaskSignal | None = None
        # What the person had seen, as the command says.
        self.seen = 0
        self.signalled = asyncio.Event()
        # Somebody else answers at the same time.
        self.too_late = False

    def _task(self) -> Task:
        task = Task(name=_NAME, state=TaskState.TASK_STATE_WAITING, last_sequence=1)
        task.wait.CopyFrom(self.wait)
        if self.signal is not None:
            task.state = TaskState.TASK_STATE_SUCCEEDED
            task.last_sequence = 2
            task.output.text = f"I was told: {self.signal.WhichOneof('kind')}"
        return task

    async def RunTask(
        self, request: pb.RunTaskRequest, context: Any
    ) -> AsyncIterator[pb.RunTaskResponse]:
        self.asked.append(request.task)
        yield pb.RunTaskResponse(task=self._task())
        waiting = TaskEvent(sequence=1, task=_NAME)
        waiting.status.state = TaskState.TASK_STATE_WAITING
        waiting.waiting.wait.CopyFrom(self.wait)
        yield pb.RunTaskResponse(event=waiting)
        await self.signalled.wait()
        end = TaskEvent(sequence=2, task=_NAME)
        end.status.state = TaskState.TASK_STATE_SUCCEEDED
        end.completed.SetInParent()
        yield pb.RunTaskResponse(event=end)
        yield pb.RunTaskResponse(task=self._task())

    async def GetTask(self, request: pb.GetTaskRequest, context: Any) -> pb.GetTaskResponse:
        return pb.GetTaskResponse(task=self._task())

    async def SignalTask(
        self, request: pb.SignalTaskRequest, context: Any
    ) -> pb.SignalTaskResponse:
        self.signal, self.seen = request.signal, request.last_sequence
        self.signalled.set()
        if self.too_late:
            raise TaskStateError("It waits for nothing.")
        return pb.SignalTaskResponse(task=self._task())


@pytest.fixture
async def coordinator() -> _Coordinator:
    servicer: Any = _Coordinator  # the RPCs that it lacks answer UNIMPLEMENTED
    made: _Coordinator = servicer()
    made.wait.input.question = "Which colour?"
    return made


@pytest.fixture
async def commands(coordinator: _Coordinator) -> AsyncIterator[Commands]:
    async with commands_for(CoordinatorService=coordinator) as commands:
        yield commands


class _Person:
    """Somebody at a terminal in which `agentmesh ask` runs."""

    def __init__(self, gateway: str) -> None:
        self._gateway = gateway
        self._master, self._slave = pty.openpty()
        self._shown = ""
        self._more = asyncio.Event()

    async def __aenter__(self) -> "_Person":
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "TERM": "xterm",
            "COLUMNS": "200",
        }
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _PROGRAM, "ask", "Paint it.", "--gateway", self._gateway,
            stdin=self._slave, stdout=self._slave, stderr=self._slave, env=environment,
            start_new_session=True,
        )  # fmt: skip
        os.close(self._slave)
        asyncio.get_running_loop().add_reader(self._master, self._read)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
        asyncio.get_running_loop().remove_reader(self._master)
        os.close(self._master)

    def _read(self) -> None:
        try:
            self._shown += os.read(self._master, 65536).decode("utf-8", "replace")
        except OSError:  # the process has ended
            asyncio.get_running_loop().remove_reader(self._master)
        self._more.set()

    @property
    def shown(self) -> str:
        """What stands in the terminal."""
        return _CONTROL.sub("", self._shown).replace("\r\n", "\n")

    async def sees(self, text: str) -> None:
        """Returns when the terminal shows `text`."""
        async with asyncio.timeout(60):
            while text not in self.shown:
                self._more.clear()
                await self._more.wait()

    def types(self, text: str) -> None:
        """Types, as keys on the keyboard."""
        os.write(self._master, text.encode())

    def interrupts(self) -> None:
        """Presses Ctrl-C."""
        self._process.send_signal(signal.SIGINT)

    async def ends(self) -> int:
        """The exit code."""
        async with asyncio.timeout(60):
            return await self._process.wait()


async def test_a_question_is_answered_in_the_terminal(
    commands: Commands, coordinator: _Coordinator
) -> None:
    """What the person types goes to the task, and the task goes on before their eyes."""
    async with _Person(commands.gateway) as person:
        await person.sees("Your answer, or Enter to answer later: ")
        assert "Which colour?" in person.shown
        person.types("blue, ünd warm\n")
        await person.sees("I was told: input")
        assert await person.ends() == 0
    assert coordinator.signal is not None
    assert coordinator.signal.input.text == "blue, ünd warm"


async def test_an_approval_is_given_in_the_terminal(
    commands: Commands, coordinator: _Coordinator
) -> None:
    """The call is shown with its arguments, and no other one approved; what is neither yes nor no
    is asked again.
    """
    coordinator.wait.approval.call.tool = "pay"
    coordinator.wait.approval.call.arguments.update({"amount": 5})
    async with _Person(commands.gateway) as person:
        await person.sees("Approve? [y]es, [n]o, or Enter to decide later: ")
        assert "pay(amount=5)" in person.shown
        person.types("perhaps\n")
        await person.sees("perhaps\nApprove? ")
        person.types("yes\n")
        await person.sees("I was told: approval")
        assert await person.ends() == 0
    assert coordinator.seen == 1


async def test_a_call_is_rejected_in_the_terminal(
    commands: Commands, coordinator: _Coordinator
) -> None:
    """The agent is told why."""
    coordinator.wait.approval.call.tool = "pay"
    async with _Person(commands.gateway) as person:
        await person.sees("Approve? ")
        person.types("n\n")
        await person.sees("Why not? The agent reads it: ")
        person.types("too much\n")
        assert await person.ends() == 0
    assert coordinator.signal is not None
    assert coordinator.signal.rejection.reason == "too much"


async def test_somebody_else_may_be_quicker(commands: Commands, coordinator: _Coordinator) -> None:
    """The task goes on with the other's answer, and the person is told."""
    coordinator.too_late = True
    async with _Person(commands.gateway) as person:
        await person.sees("Your answer")
        person.types("blue\n")
        await person.sees("It was answered meanwhile, by somebody else or by its end.")
        assert await person.ends() == 0


@pytest.mark.parametrize("keys", ["\n", "\x04"])
async def test_the_answer_can_be_left_for_later(commands: Commands, keys: str) -> None:
    """Enter and Ctrl-D leave; how to answer later is shown, and the exit code says it waits."""
    async with _Person(commands.gateway) as person:
        await person.sees("Your answer")
        person.types(keys)
        await person.sees(f"agentmesh task watch t1 --gateway {commands.gateway}")
        assert "agentmesh task signal t1 --input TEXT --last-sequence 1 --gateway" in person.shown
        assert await person.ends() == 3


async def test_ctrl_c_ends_the_question(commands: Commands, coordinator: _Coordinator) -> None:
    """Nothing hangs on a person who wants to leave."""
    async with _Person(commands.gateway) as person:
        await person.sees("Your answer")
        person.interrupts()
        assert await person.ends() == 130
    assert coordinator.signal is None


async def _without_terminal(commands: Commands, *options: str) -> tuple[int, str, str]:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _PROGRAM, "ask", "Paint it.", "--gateway", commands.gateway,
        *options, env=environment, stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_without_a_terminal_the_command_is_told(
    commands: Commands, coordinator: _Coordinator
) -> None:
    """The task keeps waiting, stdout stays empty, and the exit code is one of its own; without a
    kind of work the coordinator takes its agent's name.
    """
    code, out, err = await _without_terminal(commands)
    assert (code, out) == (3, "")
    assert [task.task_type for task in coordinator.asked] == [""]
    assert err.splitlines()[-4:] == [
        "The task waits for an answer: Which colour?",
        "It goes on when it is answered:",
        f"  agentmesh task signal t1 --input TEXT --last-sequence 1 --gateway {commands.gateway}",
        f"  agentmesh task watch t1 --gateway {commands.gateway}",
    ]


async def test_a_script_gets_the_waiting_task(
    commands: Commands, coordinator: _Coordinator
) -> None:
    """With --json the document holds the task and what it waits for; the agent and the kind of
    work are as given.
    """
    given = ("--agent", "painter", "--task-type", "painting")
    code, out, err = await _without_terminal(commands, "--json", *given)
    assert (code, err) == (3, "")
    task = json.loads(out)["task"]
    assert task["state"] == "TASK_STATE_WAITING"
    assert task["wait"]["input"]["question"] == "Which colour?"
    (asked,) = coordinator.asked
    assert (asked.agent, asked.task_type) == ("painter", "painting")
