"""The reports by which Envoy knows how busy a Triton is."""

import struct
from typing import Any, cast

import grpc

from meshtest.child_server import free_port
from models.orca_reporter import Load, OrcaReporter, Sample, TritonStatistics, load_between


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
        method = "/xds.service.orca.v3.OpenRcaService/StreamCoreMetrics"
        reports = cast(Any, channel).unary_stream(method)(b"", timeout=10)
        for _ in range(3):
            report = await reports.read()
            assert report == struct.pack("<BdBdBd", 0x31, 2.0, 0x39, 0.0, 0x49, 0.5)
        reports.cancel()
    await server.stop(None)


async def test_a_triton_that_is_away_gives_no_sample() -> None:
    """Nothing is reported of it, and Envoy finds out by itself."""
    assert await TritonStatistics("127.0.0.1", free_port()).sample() is None
