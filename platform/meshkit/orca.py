"""ORCA's stream of load reports, by which Envoy knows how busy each server is."""

import asyncio
import struct
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol, cast

import grpc

from meshkit.time_limit import within

SERVICE: Final = "xds.service.orca.v3.OpenRcaService"
_PERIOD_SECONDS: Final = 1.0
# Tags of xds.data.orca.v3.OrcaLoadReport: rps_fractional, eps and application_utilization,
# each a double.
_TAGS: Final = (0x31, 0x39, 0x49)


@dataclass(frozen=True, slots=True)
class Sample:
    """What a server has done since it started."""

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


class CallStatistics:
    """The statistics of the calls of this process's own server."""

    def __init__(self, monotonic_seconds: Callable[[], float] = time.perf_counter) -> None:
        self._monotonic_seconds: Final = monotonic_seconds
        self._succeeded = 0
        self._failed = 0
        self._in_flight = 0
        self._spent_seconds = 0.0
        self._at_seconds = monotonic_seconds()

    def begin(self) -> float:
        """Counts a call that begins; the time now, in seconds."""
        now = self._count_time()
        self._in_flight += 1
        return now

    def end(self, *, failed: bool) -> float:
        """Counts a call that ends, `failed` by the server's own fault; the time now, in seconds."""
        now = self._count_time()
        self._in_flight -= 1
        if failed:
            self._failed += 1
        else:
            self._succeeded += 1
        return now

    async def sample(self) -> Sample:
        """What was done by now, calls that are under way included."""
        return Sample(self._count_time(), self._succeeded, self._failed, self._spent_seconds)

    def _count_time(self) -> float:
        now = self._monotonic_seconds()
        self._spent_seconds += self._in_flight * (now - self._at_seconds)
        self._at_seconds = now
        return now


class OrcaReporter:
    """Serves the reports of one server."""

    def __init__(self, statistics: Statistics, *, period_seconds: float = _PERIOD_SECONDS) -> None:
        """`period_seconds`: between two reports."""
        self._statistics: Final = statistics
        self._period_seconds: Final = period_seconds
        self._ended: Final = asyncio.Event()

    async def stream(self, _request: bytes, _context: Any) -> AsyncGenerator[bytes]:
        """A report each period; none for a period in which the server did not answer."""
        before = await self._statistics.sample()
        while not await self._ends():
            after = await self._statistics.sample()
            load = load_between(before, after) if before and after else None
            before = after
            if load is not None:
                yield load.encoded()

    def end(self) -> None:
        """Ends all streams: a server that stops waits for no reader of its load."""
        self._ended.set()

    def add_to(self, server: Any) -> None:
        """Registers the service as generated code does; its messages are encoded here."""
        # Any: bytes go in and out.
        handler = cast(Any, grpc).unary_stream_rpc_method_handler(self.stream)
        handlers = {"StreamCoreMetrics": handler}
        service = grpc.method_handlers_generic_handler(SERVICE, handlers)
        server.add_generic_rpc_handlers((service,))
        server.add_registered_method_handlers(SERVICE, handlers)

    async def _ends(self) -> bool:
        """Whether the streams end, before the next report is due."""
        try:
            with within(self._period_seconds):
                await self._ended.wait()
        except TimeoutError:
            return False
        return True
