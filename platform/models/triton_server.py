"""Runs Triton Inference Server with our models as a child process.

`python -m models.triton_server TRITONSERVER --grpc-port 8001` runs it in the
foreground. A supervisor of its own takes the parts: `assemble` for the repository,
`command` for the process, `wait_until_ready` for its end of loading.
"""

import argparse
import asyncio
import contextlib
import os
import signal
import sys
import tempfile
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import grpc

from models.triton_repository import RepositoryOptions, assemble

_STOP_SECONDS: Final = 10.0
# What Triton waits for calls in flight, before it unloads.
_DRAIN_SECONDS: Final = 5
# grpc's own pause between tries starts at a second, which is as long as loading takes.
_EAGER: Final = [
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 200),
]


class TritonFailed(Exception):
    """Triton did not come up; the text has the end of what it wrote."""


@dataclass(frozen=True, slots=True)
class TritonOptions:
    """What is started, and where it listens: on the loopback interface only.

    address: one of 127.0.0.0/8. Of several each has its own, see models_gateway.py.
    program: the launcher of `@triton_env`, which knows libraries and backends.
    metrics_port: for Prometheus; None for no such endpoint.
    repository: which models it serves, and on what.
    """

    program: Path
    grpc_port: int
    metrics_port: int | None = None
    address: str = "127.0.0.1"
    repository: RepositoryOptions = field(default_factory=RepositoryOptions)
    # More flags of tritonserver, such as `--model-control-mode=explicit`.
    flags: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class RunningTriton:
    """A Triton that is ready: every model of it is loaded."""

    process: asyncio.subprocess.Process
    target: str  # host:port of its gRPC endpoint


def command(options: TritonOptions, repository: Path) -> list[str]:
    """The command line of a Triton that serves `repository`."""
    flags = [
        f"--model-repository={repository}",
        f"--grpc-port={options.grpc_port}",
        f"--grpc-address={options.address}",
        "--allow-http=false",
        # The configuration says everything: a trial run of each model would only
        # double the time to load.
        "--disable-auto-complete-config",
        f"--exit-timeout-secs={_DRAIN_SECONDS}",
    ]
    if options.metrics_port is None:
        flags += ["--allow-metrics=false"]
    else:
        flags += [f"--metrics-port={options.metrics_port}", f"--metrics-address={options.address}"]
    return [str(options.program), *flags, *options.flags]


async def wait_until_ready(target: str) -> None:
    """Returns once the Triton at `target` serves; cancel it to give up.

    Triton opens its port when all models are loaded, so a connection says it all.
    """
    async with grpc.aio.insecure_channel(target, options=_EAGER) as channel:
        await channel.channel_ready()


@contextlib.asynccontextmanager
async def running_triton(
    options: TritonOptions,
    *,
    log_path: Path | None = None,
    ready_seconds: float = 60.0,
    add_models: Callable[[Path], None] | None = None,
) -> AsyncGenerator[RunningTriton]:
    """Triton from ready to stopped; what it says goes to `log_path`, or to stderr.

    `add_models` puts more of them into the repository. Raises TritonFailed where it ends or
    is not ready in time.
    """
    with tempfile.TemporaryDirectory(prefix="triton-") as folder:
        repository = Path(folder)
        assemble(repository, options.repository)
        if add_models:
            add_models(repository)
        with contextlib.ExitStack() as files:
            log = files.enter_context(log_path.open("wb")) if log_path else None
            process = await asyncio.create_subprocess_exec(
                *command(options, repository),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log or sys.stderr,
                stderr=log or sys.stderr,
                # Bytecode would land beside the linked sources.
                env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
                # A group of its own: the backend's processes can be ended with it.
                start_new_session=True,
            )
        try:
            target = f"{options.address}:{options.grpc_port}"
            if not await _came_up(process, target, ready_seconds):
                raise TritonFailed(f"Triton did not come up.{_end_of(log_path)}")
            yield RunningTriton(process, target)
        finally:
            await _stop(process)


async def _came_up(process: asyncio.subprocess.Process, target: str, ready_seconds: float) -> bool:
    """Whether it was ready before it ended and before the time was over."""
    ready = asyncio.ensure_future(wait_until_ready(target))
    ended = asyncio.ensure_future(process.wait())
    try:
        await asyncio.wait(
            [ready, ended], timeout=ready_seconds, return_when=asyncio.FIRST_COMPLETED
        )
        return ready.done() and not ended.done()
    finally:
        ready.cancel()
        ended.cancel()
        await asyncio.gather(ready, ended, return_exceptions=True)


async def _stop(process: asyncio.subprocess.Process) -> None:
    """Ends it the friendly way, then for certain, the backend's processes too."""
    if process.returncode is None:
        process.terminate()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), _STOP_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


def _end_of(log_path: Path | None) -> str:
    return f"\n{log_path.read_text('utf-8', 'replace')[-2000:]}" if log_path else ""


async def _serve(options: TritonOptions) -> None:
    """Until SIGTERM or SIGINT, or the end of Triton, which is an error."""
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    stop = asyncio.ensure_future(stopping.wait())
    async with running_triton(options) as triton:
        print(f"Triton is ready on {triton.target}.", file=sys.stderr)
        ended = asyncio.ensure_future(triton.process.wait())
        await asyncio.wait([stop, ended], return_when=asyncio.FIRST_COMPLETED)
        if ended.done():
            raise TritonFailed(f"Triton ended with {ended.result()}.")


def main() -> None:
    """Runs Triton in the foreground."""
    parser = argparse.ArgumentParser(description="Serve our models with Triton.")
    parser.add_argument("program", type=Path, help="the launcher of Triton")
    parser.add_argument("--grpc-port", type=int, default=8001)
    parser.add_argument("--metrics-port", type=int)
    arguments = parser.parse_args()
    options = TritonOptions(arguments.program, arguments.grpc_port, arguments.metrics_port)
    try:
        asyncio.run(_serve(options))
    except TritonFailed as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
