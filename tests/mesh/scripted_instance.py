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
from meshkit import log
from meshkit.errors import DeadlineExceeded, DependencyUnavailable, MeshError, TaskNotFound
from meshkit.server import MeshServer
from tests.gateway.stand_in import StandInCoordinator, registrations
from tests.mesh.behaviour import Behaviour, Counted, Failure
from tier.ports import HOST

# The events of every task, told one after the other.
LAST_SEQUENCE: Final = 40
_BETWEEN_EVENTS_SECONDS: Final = 0.05
_DRAIN_SECONDS: Final = 1.0


class ScriptedCoordinator(StandInCoordinator):
    """Answers, waits and fails by its behaviour."""

    def __init__(self, instance: str, chance: random.Random) -> None:
        super().__init__(instance)
        self.behaviour = Behaviour()
        self._chance: Final = chance

    async def WatchTask(self, request: Any, _context: Any) -> AsyncIterator[Any]:
        """The rest of the events, at a pace; with the last of them the task has succeeded."""
        self.calls["WatchTask"] = self.calls.get("WatchTask", 0) + 1
        for sequence in range(request.after_sequence + 1, LAST_SEQUENCE + 1):
            event = task_event_pb2.TaskEvent(sequence=sequence)
            if sequence == LAST_SEQUENCE:
                event.status.state = task_pb2.TASK_STATE_SUCCEEDED
            yield coordinator_service_pb2.WatchTaskResponse(event=event)
            await asyncio.sleep(_BETWEEN_EVENTS_SECONDS)

    async def _behave(self, method: str, name: str) -> None:
        behaviour = self.behaviour
        if behaviour.delay_seconds:
            await asyncio.sleep(behaviour.delay_seconds)
        await super()._behave(method, name)
        if self._chance.random() < behaviour.failing:
            raise _error(behaviour.failure)


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


async def _obey(coordinator: ScriptedCoordinator) -> None:
    """Until nobody tells anything any more."""
    lines = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while line := await lines.readline():
        coordinator.behaviour = Behaviour.read(line)
        sys.stdout.buffer.write(Counted(coordinator.calls).line)
        sys.stdout.buffer.flush()


async def _serve(name: str, port: int) -> None:
    coordinator = ScriptedCoordinator(name, random.Random(name))
    server = MeshServer(
        name=name,
        address=f"{HOST}:{port}",
        registrations=registrations(coordinator),
        log=log.get(name, stream=sys.stderr),
        default_tenant="default",
        drain_seconds=_DRAIN_SECONDS,
    )
    serving = asyncio.create_task(server.serve())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, serving.cancel)
    obeying = asyncio.create_task(_obey(coordinator))
    await asyncio.wait([serving, obeying], return_when=asyncio.FIRST_COMPLETED)
    for task in (serving, obeying):
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], int(sys.argv[2])))
