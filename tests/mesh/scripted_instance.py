"""An instance of the services that behaves as it is told, as a process.

    python -m tests.mesh.scripted_instance NAME PORT

Each line on its standard input is a Behaviour, in force when the line is answered, on standard
output, with what was Counted until then. It ends with its input, and drains when told by SIGTERM.
"""

import asyncio
import contextlib
import random
import signal
import sys
from collections.abc import AsyncIterator
from typing import Any, Final

from agentmesh.coordinator.v1 import coordinator_service_pb2, task_event_pb2, task_pb2
from agentmesh.memory.v1 import memory_service_pb2, memory_service_pb2_grpc
from meshkit import log
from meshkit.errors import DeadlineExceeded, DependencyUnavailable, MeshError, TaskNotFound
from meshkit.server import MeshServer, Registration
from tests.gateway.stand_in import StandInCoordinator, registrations
from tests.mesh.behaviour import INSTANCE_KEY, LAST_SEQUENCE, Behaviour, Counted, Failure
from tier.ports import HOST

_MEMORY: Final = "agentmesh.memory.v1.MemoryService"

# Typed as abstract, though what is not overridden answers UNIMPLEMENTED.
_MemoryServicer: Any = memory_service_pb2_grpc.MemoryServiceServicer


class Script:
    """What every call goes through."""

    def __init__(self, instance: str, chance: random.Random) -> None:
        # By method.
        self.calls: Final[dict[str, int]] = {}
        self._behaviour = Behaviour()
        self._changed = asyncio.Event()
        self._instance: Final = instance
        self._chance: Final = chance

    def obey(self, behaviour: Behaviour) -> None:
        """From now on."""
        self._behaviour = behaviour
        self._changed.set()
        self._changed = asyncio.Event()

    async def play(self, method: str, context: Any) -> None:
        """Counts, waits and fails by the behaviour; says who it was."""
        self.calls[method] = self.calls.get(method, 0) + 1
        behaviour = self._behaviour
        if behaviour.delay_seconds:
            await asyncio.sleep(behaviour.delay_seconds)
        if self._chance.random() < behaviour.failing:
            raise _error(behaviour.failure)
        context.set_trailing_metadata(((INSTANCE_KEY, self._instance),))

    async def released(self) -> None:
        """Returns when calls are not held."""
        while self._behaviour.held:
            await self._changed.wait()


class ScriptedCoordinator(StandInCoordinator):
    """Tasks of any name, by the script."""

    def __init__(self, instance: str, script: Script) -> None:
        super().__init__(instance)
        self._script: Final = script

    async def GetTask(self, request: Any, context: Any) -> Any:
        """A read."""
        await self._script.play("GetTask", context)
        await self._script.released()
        return await super().GetTask(request, context)

    async def SubmitTask(self, request: Any, context: Any) -> Any:
        """An effect."""
        await self._script.play("SubmitTask", context)
        await self._script.released()
        return await super().SubmitTask(request, context)

    async def WatchTask(self, request: Any, context: Any) -> AsyncIterator[Any]:
        """The rest of the events; with the last of them the task has succeeded."""
        await self._script.play("WatchTask", context)
        for sequence in range(request.after_sequence + 1, LAST_SEQUENCE + 1):
            event = task_event_pb2.TaskEvent(sequence=sequence)
            if sequence == LAST_SEQUENCE:
                event.status.state = task_pb2.TASK_STATE_SUCCEEDED
            yield coordinator_service_pb2.WatchTaskResponse(event=event)
            if sequence == LAST_SEQUENCE // 2:
                await self._script.released()


class ScriptedMemory(_MemoryServicer):
    """Finds nothing and keeps nothing, by the script."""

    def __init__(self, script: Script) -> None:
        self._script: Final = script

    async def Search(self, _request: Any, context: Any) -> Any:
        """A read."""
        await self._script.play("Search", context)
        await self._script.released()
        return memory_service_pb2.SearchResponse()

    async def AppendMessages(self, _request: Any, context: Any) -> Any:
        """An effect."""
        await self._script.play("AppendMessages", context)
        await self._script.released()
        return memory_service_pb2.AppendMessagesResponse()


def _error(failure: Failure) -> MeshError | RuntimeError:
    match failure:
        case "UNAVAILABLE":
            return DependencyUnavailable("As I was told.")
        case "DEADLINE_EXCEEDED":
            return DeadlineExceeded("As I was told.")
        case "NOT_FOUND":
            return TaskNotFound("As I was told.")
        case "INTERNAL":
            return RuntimeError("As I was told.")


async def _obey(script: Script) -> None:
    """Until nobody tells anything any more."""
    lines = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while line := await lines.readline():
        script.obey(Behaviour.read(line))
        sys.stdout.buffer.write(Counted(script.calls).line)
        sys.stdout.buffer.flush()


async def _serve(name: str, port: int) -> None:
    script = Script(name, random.Random(name))
    others = registrations(ScriptedCoordinator(name, script))
    memory = Registration(
        _MEMORY,
        memory_service_pb2_grpc.add_MemoryServiceServicer_to_server,
        ScriptedMemory(script),
    )
    server = MeshServer(
        name=name,
        address=f"{HOST}:{port}",
        registrations=[memory, *(each for each in others if each.service_name != _MEMORY)],
        log=log.get(name, stream=sys.stderr),
        default_tenant="default",
    )
    serving = asyncio.create_task(server.serve())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, serving.cancel)
    obeying = asyncio.create_task(_obey(script))
    await asyncio.wait([serving, obeying], return_when=asyncio.FIRST_COMPLETED)
    for task in (serving, obeying):
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], int(sys.argv[2])))
