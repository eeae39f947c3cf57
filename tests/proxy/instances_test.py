"""What callers notice when instances behind the proxy come, go and die."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from agentmesh.reasoning.v1 import reasoning_service_pb2 as pb
from meshkit.batch_stream import BatchStream
from meshkit.coalesce import Coalescer
from meshkit.errors import DependencyUnavailable
from meshtest.eventually import eventually
from tests.proxy.running_proxy import Caller, Proxy, caller, proxy
from tests.proxy.stand_in import DIES, SLOW, TAKES


@pytest_asyncio.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Proxy]:
    """A proxy before two instances."""
    async with proxy(tmp_path, "a", "b") as running:
        yield running


class _Load:
    """Callers that are never done, and what became of their calls."""

    def __init__(self, caller: Caller, callers: int = 8) -> None:
        self.answered: list[str] = []
        self._caller = caller
        self._tasks = [asyncio.create_task(self._call()) for _ in range(callers)]
        self._stopping = False

    async def more(self, calls: int) -> None:
        """Returns after so many calls more, or raises what one failed with."""
        before = len(self.answered)
        await eventually(lambda: self._failed() or len(self.answered) >= before + calls, 20)

    async def end(self) -> None:
        """Ends when the calls in flight have; raises what one failed with."""
        self._stopping = True
        await asyncio.gather(*self._tasks)

    def _failed(self) -> bool:
        return any(each.done() for each in self._tasks)

    async def _call(self) -> None:
        while not self._stopping:
            self.answered.append(await self._caller.embed(f"{TAKES}0.01"))


async def test_an_instance_that_is_taken_from_the_file_loses_no_call(pair: Proxy) -> None:
    """It gets no more calls, finishes those that it has, and may be ended then."""
    async with caller(pair.target) as reasoning:
        load = _Load(reasoning)
        await load.more(100)
        leaving = pair.instances["a"]
        pair.write([pair.instances["b"].port])

        async def unknown() -> bool:
            return leaving.port not in await pair.known()

        await eventually(unknown)
        await leaving.end()
        seen = len(load.answered)
        await load.more(100)
        await load.end()
        assert set(load.answered[seen + 8 :]) == {"b"}


async def test_a_call_in_flight_survives_the_drain_of_its_instance(pair: Proxy) -> None:
    """Though the instance is taken from the file and ended while it works."""
    async with caller(pair.target) as reasoning:
        slow = [asyncio.create_task(reasoning.embed(f"{TAKES}2")) for _ in range(8)]

        async def both_work() -> bool:
            counts = await pair.statistics("cluster.reasoning.")
            return counts["upstream_rq_active"] == 8

        await eventually(both_work)
        pair.write([pair.instances["b"].port])
        await pair.instances["a"].end()
        assert set(await asyncio.gather(*slow)) == {"a", "b"}


async def test_a_new_instance_has_its_share_within_ten_seconds(tmp_path: Path) -> None:
    """From the moment at which it is in the file, its start included."""
    async with proxy(tmp_path, "a") as running, caller(running.target) as reasoning:
        load = _Load(reasoning, callers=4)
        begun = time.monotonic()
        await running.add("b")

        async def has_its_share() -> bool:
            seen = len(load.answered)
            await load.more(200)
            return load.answered[seen:].count("b") / len(load.answered[seen:]) > 0.4

        await eventually(has_its_share, timeout_seconds=10)
        assert time.monotonic() - begun < 10
        await load.end()


async def test_a_rolling_restart_without_the_file_loses_no_call(pair: Proxy) -> None:
    """What reaches an instance that begins to stop is taken by the other one."""
    async with caller(pair.target) as reasoning:
        load = _Load(reasoning)
        for name in ("a", "b"):
            await load.more(100)
            await pair.instances[name].end()
            await load.more(100)
            pair.instances[name].start()
            await eventually(lambda: pair.has_healthy(2), timeout_seconds=20)
        await load.end()


async def test_killing_an_instance_costs_no_call_that_is_safe_to_repeat(pair: Proxy) -> None:
    """The proxy makes it again at the other instance when the connection breaks."""
    async with caller(pair.target) as reasoning:
        load = _Load(reasoning)
        await load.more(100)
        pair.instances["a"].kill()
        await load.more(200)
        await load.end()
        assert set(load.answered[-100:]) == {"b"}


async def test_a_call_waits_for_the_only_instance_to_be_back(tmp_path: Path) -> None:
    """Its channel does: the proxy says at once that nobody is there."""
    async with proxy(tmp_path, "a") as running, caller(running.target) as reasoning:
        running.instances["a"].kill()
        call = asyncio.create_task(reasoning.embed())

        async def was_tried() -> bool:
            counts = await running.statistics("cluster.reasoning.")
            return counts["upstream_cx_connect_fail"] > 0

        await eventually(was_tried)
        running.instances["a"].start()
        assert await call == "a"


async def test_a_call_that_takes_its_instances_down_is_told_so(pair: Proxy) -> None:
    """It is made again twice, and no more."""
    async with caller(pair.target, patience_seconds=0.0) as reasoning:
        with pytest.raises(DependencyUnavailable):
            await reasoning.embed(DIES)
        counts = await pair.statistics("cluster.reasoning.")
        assert counts["upstream_rq_retry"] == 2


async def test_words_go_on_while_their_instance_drains(pair: Proxy) -> None:
    """A stream that fits into the drain is not cut."""
    async with caller(pair.target, "executor") as reasoning:
        request = pb.GenerateStreamRequest()
        request.request.parameters.max_output_tokens = 100
        streams = [reasoning.stub.GenerateStream(request, timeout=20) for _ in range(4)]
        heard = [await anext(aiter(each)) for each in streams]
        assert [each.text_delta for each in heard] == ["0 "] * 4
        pair.write([pair.instances["b"].port])
        ending = asyncio.create_task(pair.instances["a"].end())
        for stream in streams:
            *words, last = [each async for each in stream]
            assert len(words) == 99
            assert last.response.model in ("a", "b")
        await ending


async def test_batches_go_on_while_an_instance_leaves(pair: Proxy) -> None:
    """The streams of an executor last for a moment: the next ones go to who is there."""
    async with caller(pair.target, "executor") as reasoning:
        stream = BatchStream[pb.BatchGenerateItem](
            reasoning.stub.BatchGenerateStream,
            pb.BatchGenerateStreamRequest,
            who="reasoning",
            timeout_seconds=10,
        )
        calls = Coalescer[pb.BatchGenerateItem, pb.GenerateResponse](stream.send)
        answered: list[str] = []
        stopping = asyncio.Event()

        async def call() -> None:
            while not stopping.is_set():
                answered.append((await calls.call(pb.BatchGenerateItem())).model)

        working = [asyncio.create_task(call()) for _ in range(8)]
        await eventually(lambda: {*answered} == {"a", "b"})
        pair.write([pair.instances["b"].port])
        await eventually(lambda: {*answered[-100:]} == {"b"})
        await pair.instances["a"].end()
        seen = len(answered)
        await eventually(lambda: len(answered) > seen + 100)
        stopping.set()
        await asyncio.gather(*working)


async def test_a_slower_instance_gets_less(tmp_path: Path) -> None:
    """By its own reports of how busy it is, though callers would wait for it."""
    async with proxy(tmp_path, "quick", SLOW) as running, caller(running.target) as reasoning:
        load = _Load(reasoning)

        async def gets_less() -> bool:
            seen = len(load.answered)
            await load.more(300)
            recent = load.answered[seen:]
            return 0 < recent.count(SLOW) < len(recent) / 4

        # Evenly dealt, each would have half of the calls.
        await eventually(gets_less, timeout_seconds=15)
        await load.end()
