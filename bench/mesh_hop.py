"""What the hop through the proxy between services adds to a call, in time and in processor time.

    bazel run -c opt //bench:mesh_hop

One instance of a service that answers at once is called in turn directly, through the shipped
proxy in plain text, and through it with mutual TLS: by calls of their own, and by items on open
streams, as services make their frequent calls. First one at a time, for the time that it takes,
then 32 at a time, for the processor time that each process spends on one.
"""

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil
import uvloop

from agentmesh.common.v1.conversation_pb2 import Message, Part
from agentmesh.reasoning.v1 import reasoning_service_pb2 as pb
from meshkit.batch_stream import BatchStream
from meshkit.coalesce import Coalescer
from tests.proxy.running_proxy import Caller, Proxy, caller, proxy
from tier.scheduling import take_turns
from tier.wakefulness import awake, may_keep_awake

_Call = Callable[[], Awaitable[object]]

_TEXT: Final = "x" * 200
_MICROSECONDS: Final = 1e6
_WARM_UP_CALLS: Final = 300
_IN_FLIGHT: Final = 32
_CALL_SECONDS: Final = 60.0
# Services that may make the calls.
_UNARY, _STREAMED = "memory", "executor"


@dataclass(frozen=True, slots=True)
class Way:
    """One way to call the service, and what was measured on it."""

    name: str
    call: _Call
    processes: Mapping[str, psutil.Process]
    # Seconds of each call that was alone.
    seconds: list[float] = field(default_factory=list[float])
    # Processor time of each round, by process, in microseconds a call.
    spent: list[Mapping[str, float]] = field(default_factory=list[Mapping[str, float]])


async def _one_at_a_time(way: Way, calls: int) -> None:
    for _ in range(calls):
        begun = time.perf_counter()
        await way.call()
        way.seconds.append(time.perf_counter() - begun)


async def _many_at_a_time(way: Way, calls: int) -> None:
    before = {name: _spent(each) for name, each in way.processes.items()}
    left = iter(range(calls))

    async def work() -> None:
        for _ in left:
            await way.call()

    await asyncio.gather(*(work() for _ in range(_IN_FLIGHT)))
    way.spent.append(
        {
            name: (_spent(each) - before[name]) / calls * _MICROSECONDS
            for name, each in way.processes.items()
        }
    )


def _spent(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


@asynccontextmanager
async def _ways(folder: Path) -> AsyncGenerator[Sequence[Sequence[Way]]]:
    """Those of each kind of call, the direct one first."""
    async with (
        proxy(folder / "plain", "a") as plain,
        proxy(folder / "mutual", "a", mtls=True) as mutual,
        AsyncExitStack() as stack,
    ):

        async def kind(service: str, call: Callable[[Caller], _Call]) -> list[Way]:
            async def way(name: str, target: str, proxied: Proxy | None = None) -> Way:
                tls = mutual.tls(service) if proxied is mutual else None
                calls = call(await stack.enter_async_context(caller(target, service, tls=tls)))
                between = {"Envoy": psutil.Process(proxied.pid)} if proxied else {}
                return Way(name, calls, {**_both_ends(proxied or plain), **between})

            return [
                await way("direct", plain.instances["a"].target),
                await way("proxy, plain text", plain.target, plain),
                await way("proxy, mutual TLS", mutual.target, mutual),
            ]

        yield [await kind(_UNARY, _by_itself), await kind(_STREAMED, _on_streams)]


def _by_itself(caller: Caller) -> _Call:
    return lambda: caller.embed(_TEXT)


def _on_streams(caller: Caller) -> _Call:
    stream = BatchStream[pb.BatchGenerateItem](
        caller.stub.BatchGenerateStream,
        pb.BatchGenerateStreamRequest,
        who="reasoning",
        timeout_seconds=_CALL_SECONDS,
    )
    calls = Coalescer[pb.BatchGenerateItem, pb.GenerateResponse](stream.send)
    request = pb.GenerateRequest(messages=[Message(parts=[Part(text=_TEXT)])])
    return lambda: calls.call(pb.BatchGenerateItem(request=request))


def _both_ends(running: Proxy) -> Mapping[str, psutil.Process]:
    service = psutil.Process(running.instances["a"].pid)
    return {"caller": psutil.Process(), "service": service}


def _show(kind: str, ways: Sequence[Way]) -> None:
    print(kind)
    base = statistics.median(ways[0].seconds)
    for way in ways:
        middle = statistics.median(way.seconds)
        worst = statistics.quantiles(way.seconds, n=100)[98]
        spent = {
            name: statistics.median(each[name] for each in way.spent) for name in way.processes
        }
        parts = ", ".join(f"{name} {each:.0f}" for name, each in spent.items())
        print(
            f"  {way.name:18}  median {middle * 1000:.3f} ms ({(middle - base) * 1000:+.3f}),"
            f" p99 {worst * 1000:.2f} ms; {sum(spent.values()):.0f} µs of processor a call: {parts}"
        )


async def _main(rounds: int, calls: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with _ways(Path(folder)) as (by_itself, on_streams):
            ways = [*by_itself, *on_streams]
            for way in ways:
                await _many_at_a_time(way, _WARM_UP_CALLS)
                way.spent.clear()
            # In turn, so that what else the machine does meets all of them.
            for _ in range(rounds):
                for way in ways:
                    await _one_at_a_time(way, calls)
                    await _many_at_a_time(way, calls * 4)
            _show("calls of their own", by_itself)
            _show("items on open streams", on_streams)


def main() -> None:
    """Measures, and prints a line for each way."""
    parser = argparse.ArgumentParser(description="Measure what a hop of the mesh costs.")
    parser.add_argument("--envoy", type=Path, help="the binary, where ENVOY does not name it")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--calls", type=int, default=300, help="one at a time, in each round")
    parser.add_argument(
        "--asleep", action="store_true", help="let idle processors sleep, as where nobody is busy"
    )
    arguments = parser.parse_args()
    if arguments.envoy:
        os.environ["ENVOY"] = str(arguments.envoy.absolute())
    # As staging's processes do, and as it keeps its machine while it is busy.
    take_turns()
    is_awake = not arguments.asleep and may_keep_awake()
    print(f"processors {'are kept awake' if is_awake else 'sleep between calls'}")
    with (
        awake() if is_awake else nullcontext(),
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(_main(arguments.rounds, arguments.calls))


if __name__ == "__main__":
    main()
