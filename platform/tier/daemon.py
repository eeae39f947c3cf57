"""The process of a mesh in the background; run by `tier.detached` alone."""

import argparse
import asyncio
import json
import os
import signal
import sys
from contextlib import suppress
from typing import Final, TextIO

import uvloop

from tier import child_exec
from tier.events import Event
from tier.failures import MeshStartError
from tier.mesh import RunningMesh, start
from tier.options import MeshOptions


class Starter:
    """Whoever started the mesh and listens until it is ready; may be gone at any time."""

    def __init__(self, stream: TextIO) -> None:
        self._stream: Final = stream

    def event(self, event: Event) -> None:
        """Tells what happens."""
        self._tell({"event": event.to_json()})

    def failure(self, error: MeshStartError) -> None:
        """Tells why there is no mesh."""
        self._tell({"failure": {"kind": type(error).__name__, "text": str(error)}})

    def ready(self, mesh: RunningMesh) -> None:
        """Tells the outcome, and hangs up."""
        self._tell({"state": mesh.state.to_json()})
        with suppress(OSError):
            self._stream.close()

    def _tell(self, message: dict[str, object]) -> None:
        if not self._stream.closed:
            with suppress(OSError):
                print(json.dumps(message), file=self._stream, flush=True)


async def live(options: MeshOptions, starter: Starter) -> int:
    """Runs the mesh until SIGTERM or SIGINT; the exit code."""
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, stopping.set)
    stopped = asyncio.create_task(stopping.wait())
    starting = asyncio.create_task(start(options, starter.event))
    await asyncio.wait([starting, stopped], return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
    try:
        mesh = await starting
    except asyncio.CancelledError:
        return 1
    except MeshStartError as error:
        print(f"error: {error}", file=sys.stderr)
        starter.failure(error)
        return 1
    starter.ready(mesh)
    async with mesh:
        failing = asyncio.create_task(mesh.wait())
        await asyncio.wait([failing, stopped], return_when=asyncio.FIRST_COMPLETED)
        if stopped.done():
            failing.cancel()
            return 0
        print(f"error: {failing.exception()}", file=sys.stderr)
        return 1


def main() -> None:
    """Reads its options, and lives."""
    parser = argparse.ArgumentParser(prog="tier.daemon", description=__doc__)
    parser.add_argument("--told", type=int, required=True, help="descriptor to tell progress to")
    parser.add_argument("--options", type=json.loads, required=True, help="MeshOptions as JSON")
    arguments = parser.parse_args()
    os.set_inheritable(arguments.told, False)
    os.umask(child_exec.UMASK)
    starter = Starter(os.fdopen(arguments.told, "w", encoding="utf-8"))
    options = MeshOptions.from_json(arguments.options)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        code = runner.run(live(options, starter))
    sys.exit(code)


if __name__ == "__main__":
    main()
