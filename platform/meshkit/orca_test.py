"""The reports by which Envoy knows how busy a server is."""

import asyncio
import io
import struct
from collections.abc import AsyncIterator
from typing import Any, cast

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue

from meshkit import errors, log
from meshkit.orca import CallStatistics, Load, OrcaReporter, Sample, load_between
from meshkit.server import MeshServer
from meshtest import echo
from meshtest.serving import serving

_METHOD = "/xds.service.orca.v3.OpenRcaService/StreamCoreMetrics"


def test_the_load_is_what_was_done_between_two_samples() -> None:
    """A second in which four requests took half a second each has two at a time in the mean."""
    before = Sample(at_seconds=10.0, succeeded=100, failed=2, spent_seconds=50.0)
    after = Sample(at_seconds=11.0, succeeded=103, failed=3, spent_seconds=52.0)
    assert load_between(before, after) == Load(4.0, 1.0, 2.0)


def test_a_server_that_was_started_anew_has_no_load_yet() -> None:
    """Its counters begin at nothing again."""
    before = Sample(at_seconds=10.0, succeeded=100, failed=2, spent_seconds=50.0)
    after = Sample(at_seconds=11.0, succeeded=1, failed=0, spent_seconds=0.1)
    assert load_between(before, after) is None


async def test_calls_count_while_they_are_under_way() -> None:
    """A call that takes long shows at once, not when it is over."""
    now = [100.0]
    statistics = CallStatistics(lambda: now[0])
    statistics.begin()
    now[0] += 1
    statistics.begin()
    now[0] += 2
    assert await statistics.sample() == Sample(103.0, 0, 0, 5.0)
    statistics.end(failed=True)
    now[0] += 1
    statistics.end(failed=False)
    now[0] += 9
    assert await statistics.sample() == Sample(113.0, 1, 1, 6.0)


class _Counting:
    """Two requests more with each sample, which is a second later."""

    def __init__(self) -> None:
        self._samples = 0

    async def sample(self) -> Sample:
        self._samples += 1
        count = self._samples
        return Sample(at_seconds=count, succeeded=2 * count, failed=0, spent_seconds=count / 2)


async def test_reports_come_as_envoy_reads_them() -> None:
    """An OrcaLoadReport each period: the fields 6, 7 and 9, each a double."""
    server = grpc.aio.server()
    OrcaReporter(_Counting(), period_seconds=0.01).add_to(server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        reports = cast(Any, channel).unary_stream(_METHOD)(b"", timeout=60)
        for _ in range(3):
            report = await reports.read()
            assert report == struct.pack("<BdBdBd", 0x31, 2.0, 0x39, 0.0, 0x49, 0.5)
        reports.cancel()
    await server.stop(None)


class _Busy(echo.EchoServicer):
    """Fails as its own fault, by its caller's, or takes until it is told."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()

    async def Say(self, request: StringValue, context: Any) -> StringValue:
        if request.value == "broken":
            raise RuntimeError
        if request.value == "wrong":
            raise errors.InvalidField("value", "is wrong")
        return request

    async def Repeat(self, request: StringValue, context: Any) -> AsyncIterator[StringValue]:
        yield request
        await self.go_on.wait()


async def test_every_server_reports_its_load() -> None:
    """Calls a second, those failed by its own fault, and calls in flight, streams among them."""
    servicer = _Busy()
    async with serving([echo.registration(servicer)]) as channels:
        channel: Any = channels.get("echo")
        stub = echo.EchoStub(channel)
        reports = channel.unary_stream(_METHOD)(b"", timeout=60)
        stream = stub.Repeat(StringValue(value="a"), timeout=60)
        await anext(stream)
        for text in ("fine", "wrong", "broken"):
            try:
                await stub.Say(StringValue(value=text), timeout=60)
            except errors.MeshError:
                assert text != "fine"
            # The call is in none of those that were sent before its end.
            while not (report := _decoded(await anext(reports)))[0]:
                pass
            assert report[1] == (report[0] if text == "broken" else 0)
        assert _decoded(await anext(reports)) == pytest.approx((0.0, 0.0, 1.0))
        servicer.go_on.set()
        with pytest.raises(StopAsyncIteration):
            await anext(stream)


async def test_a_server_that_stops_waits_for_no_reader_of_its_load() -> None:
    """The stream of reports ends with the server, not with its time for draining."""
    server = MeshServer(
        name="test",
        address="127.0.0.1:0",
        registrations=[echo.registration(echo.EchoServicer())],
        log=log.get("test", stream=io.StringIO()),
        default_tenant="default",
        drain_seconds=60.0,
    )
    task = asyncio.create_task(server.serve())
    await server.started()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        reports = cast(Any, channel).unary_stream(_METHOD)(b"", timeout=60)
        await reports.read()
        task.cancel()
        await asyncio.wait([task], timeout=60)
        assert task.cancelled()
        assert await reports.code() == grpc.StatusCode.OK


def _decoded(report: bytes) -> tuple[float, float, float]:
    tags_and_values = struct.unpack("<BdBdBd", report)
    assert tags_and_values[::2] == (0x31, 0x39, 0x49)
    rps, eps, utilization = tags_and_values[1::2]
    return rps, eps, utilization
