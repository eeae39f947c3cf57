"""Tells Envoy how busy Triton servers are, by ORCA's stream of load reports.

`python -m models.orca_reporter 127.0.0.2:8003=127.0.0.2:8002 ...` answers at the first address
for the Triton whose metrics are at the second: Envoy asks beside each server for its reports.
"""

import argparse
import asyncio
import contextlib
import re
import signal
import struct
import sys
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, cast

import grpc

_SERVICE: Final = "xds.service.orca.v3.OpenRcaService"
_PERIOD_SECONDS: Final = 1.0
_ANSWER_SECONDS: Final = 1.0
# Triton's own durations end when a model has taken a request on; of models that go on writing,
# vLLM's backend tells the rest, and ours does as it does.
_GENERATING: Final = "vllm:e2e_request_latency_seconds_sum"
# Tags of xds.data.orca.v3.OrcaLoadReport: rps_fractional, eps and application_utilization,
# each a double.
_TAGS: Final = (0x31, 0x39, 0x49)


@dataclass(frozen=True, slots=True)
class Sample:
    """What a Triton has done since it started, all models together."""

    at_seconds: float
    succeeded: int
    failed: int
    # That requests spent in it, waiting or being worked on.
    spent_seconds: float


@dataclass(frozen=True, slots=True)
class Load:
    """How busy a server was between two samples."""

    requests_per_second: float
    errors_per_second: float
    # How many requests were in it at a time, in the mean.
    utilization: float

    def encoded(self) -> bytes:
        """As an OrcaLoadReport."""
        values = (self.requests_per_second, self.errors_per_second, self.utilization)
        return b"".join(
            struct.pack("<Bd", tag, value) for tag, value in zip(_TAGS, values, strict=True)
        )


class Statistics(Protocol):
    """Where samples come from."""

    async def sample(self) -> Sample | None:
        """What the server has done by now; None where it does not answer."""
        ...


def load_between(before: Sample, after: Sample) -> Load | None:
    """How busy the server was; None where it was started anew in between.

    By Little's law requests a second divided by the utilization are one by their latency:
    Envoy's weights, which are just that, follow how quickly each server answers.
    """
    seconds = after.at_seconds - before.at_seconds
    succeeded, failed = after.succeeded - before.succeeded, after.failed - before.failed
    spent = after.spent_seconds - before.spent_seconds
    if seconds <= 0 or min(succeeded, failed, spent) < 0:
        return None
    return Load((succeeded + failed) / seconds, failed / seconds, spent / seconds)


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


class OrcaReporter:
    """Serves the reports of one server."""

    def __init__(self, statistics: Statistics, *, period_seconds: float = _PERIOD_SECONDS) -> None:
        """`period_seconds`: between two reports."""
        self._statistics: Final = statistics
        self._period_seconds: Final = period_seconds

    async def stream(self, _request: bytes, _context: Any) -> AsyncGenerator[bytes]:
        """A report each period; none for a period in which the server did not answer."""
        before = await self._statistics.sample()
        while True:
            await asyncio.sleep(self._period_seconds)
            after = await self._statistics.sample()
            load = load_between(before, after) if before and after else None
            before = after
            if load is not None:
                yield load.encoded()

    def add_to(self, server: grpc.aio.Server) -> None:
        """Registers the service, whose messages are encoded here."""
        # Any: bytes go in and out.
        handler = cast(Any, grpc).unary_stream_rpc_method_handler(self.stream)
        service = grpc.method_handlers_generic_handler(_SERVICE, {"StreamCoreMetrics": handler})
        server.add_generic_rpc_handlers((service,))


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
