"""Tells Envoy how busy Triton servers are, by ORCA's stream of load reports.

`python -m models.orca_reporter 127.0.0.2:8003=127.0.0.2:8002 ...` answers at the first address
for the Triton whose metrics are at the second: Envoy asks beside each server for its reports.
"""

import argparse
import asyncio
import contextlib
import re
import signal
import sys
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Final

import grpc

from meshkit.orca import OrcaReporter, Sample

_ANSWER_SECONDS: Final = 1.0
# Triton's own durations end when a model has taken a request on; of models that go on writing,
# vLLM's backend tells the rest, and ours does as it does.
_GENERATING: Final = "vllm:e2e_request_latency_seconds_sum"


class TritonStatistics:
    """The statistics of one Triton, by its metrics."""

    def __init__(self, host: str, port: int) -> None:
        """Where its metrics are, for Prometheus."""
        self._host: Final = host
        self._port: Final = port

    async def sample(self) -> Sample | None:
        """What the server has done by now; None where it does not answer."""
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                text = await self._metrics()
        except (OSError, TimeoutError):
            return None
        return Sample(
            at_seconds=time.monotonic(),
            succeeded=round(_total(text, "nv_inference_request_success")),
            failed=round(_total(text, "nv_inference_request_failure")),
            spent_seconds=_total(text, "nv_inference_request_duration_us") / 1e6
            + _total(text, _GENERATING),
        )

    async def _metrics(self) -> str:
        reader, writer = await asyncio.open_connection(self._host, self._port)
        try:
            host = f"{self._host}:{self._port}"
            writer.write(f"GET /metrics HTTP/1.0\r\nhost: {host}\r\n\r\n".encode())
            return (await reader.read(-1)).decode("utf-8", "replace")
        finally:
            writer.close()


def _total(text: str, name: str) -> float:
    """The sum of a metric over all models."""
    values = re.findall(rf"^{re.escape(name)}(?:{{[^}}]*}})? (\S+)", text, re.MULTILINE)
    return sum(map(float, values))


@contextlib.asynccontextmanager
async def reporting(tritons: Mapping[str, str]) -> AsyncGenerator[None]:
    """Reports at each address for the Triton whose metrics are at the other; both host:port."""
    async with contextlib.AsyncExitStack() as stack:
        for address, metrics in tritons.items():
            host, _, port = metrics.rpartition(":")
            server = grpc.aio.server()
            OrcaReporter(TritonStatistics(host, int(port))).add_to(server)
            server.add_insecure_port(address)
            await server.start()
            stack.push_async_callback(server.stop, None)
        yield


async def _serve(tritons: Mapping[str, str]) -> None:
    """Until SIGTERM or SIGINT."""
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with reporting(tritons):
        print(f"Reporting at {', '.join(tritons)}.", file=sys.stderr)
        await stopping.wait()


def main(arguments: Sequence[str] | None = None) -> None:
    """Reports in the foreground."""
    parser = argparse.ArgumentParser(description="Report how busy Triton servers are.")
    parser.add_argument("places", nargs="+", metavar="ADDRESS=METRICS", help="each host:port")
    places: Sequence[str] = parser.parse_args(arguments).places
    asyncio.run(_serve(dict(each.split("=", 1) for each in places)))


if __name__ == "__main__":
    main()
