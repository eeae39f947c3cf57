"""What callers notice when instances behind the proxy come, go and die."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from agentmesh.reasoning.v1 import reasoning_service_pb2 as pb
from meshkit.batch_stream import BatchStream
from meshkit.coalesce import Coalescer
from meshtest.eventually import eventually
from tests.proxy.running_proxy import Caller, Proxy, caller, proxy
from tests.proxy.stand_in import SLOW, TAKES

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Proxy]:
    """See `pair`."""
    async with proxy(tmp_path_factory.mktemp("pair"), "a", "b") as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def pair(running: Proxy) -> Proxy:
    """A proxy before two instances, both in use."""
    await running.restore()
    return running


class _Load:
    """Callers that are never done, and what became of their calls."""

    def __init__(self, caller: Caller, callers: int = 4) -> None:
        self.answered: list[str] = []
        self._caller = caller
        self._tasks = [asyncio.create_task(self._call()) for _ in range(callers)]
        self._stopping = False

    async def more(self, calls: int) -> None:
        """Returns after so many calls more, or raises what one failed with."""
        before = len(self.answered)
        await eventually(lambda: self._failed() or len(self.answered) >= before + calls, 60)

    async def end(self) -> None:
        """Ends when the calls in flight have; raises what one failed with."""
        self._stopping = True
        await asyncio.gather(*self._tasks)

    def _failed(self) -> bool:
        return any(each.done() for each in self._tasks)

    async def _call(self) -> None:
        while not self._stopping:
            self.answered.append(await self._caller.embed(f"{TAKES}0.02"))


async def test_an_instance_that_is_taken_from_the_file_loses_no_call(pair: Proxy) -> None:
    """It gets no more calls, finishes those that it has, and may be ended then."""
    async with caller(pair.target) as reasoning:
        load = _Load(reasoning)
        await load.more(100)
        await pair.leave("b")
        await pair.instances["a"].end()
        seen = len(load.answered)
        await load.more(100)
        await load.end()
        assert set(load.answered[seen + 4 :]) == {"b"}


async def test_calls_in_flight_survive_the_drain_of_their_instance(pair: Proxy) -> None:
    """Though the instance is taken from the file and ended while it works: no answer is lost, and
    no stream that fits into the drain is cut.
    """
    async with caller(pair.target) as memory, caller(pair.target, "executor") as executor:
        slow = [asyncio.create_task(memory.embed(f"{TAKES}6")) for _ in range(8)]
        request = pb.GenerateStreamRequest()
        request.request.parameters.max_output_tokens = 300
        streams = [executor.stub.GenerateStream(request, timeout=120) for _ in range(4)]
        heard = [await anext(aiter(each)) for each in streams]
        assert [each.text_delta for each in heard] == ["0 "] * 4

        async def both_work() -> bool:
            counts = await pair.statistics("cluster.reasoning.")
            return counts["upstream_rq_active"] == len(slow) + len(streams)

        await eventually(both_work, 60)
        pair.write([pair.instances["b"].port])
        ending = asyncio.create_task(pair.instances["a"].end())
        answered: list[str] = []
        for stream in streams:
            *words, last = [each async for each in stream]
            assert len(words) == 299
            answered.append(last.response.model)
        answered += await asyncio.gather(*slow)
        assert set(answered) == {"a", "b"}
        await ending


async def test_a_new_instance_gets_its_share(pair: Proxy) -> None:
    """From the moment at which it is in the file and well, calls are shared out anew."""
    await pair.leave("a")
    await pair.instances["b"].end()
    async with caller(pair.target) as reasoning:
        load = _Load(reasoning)
        await load.more(100)
        assert set(load.answered) == {"a"}
        await pair.restore()

        async def has_its_share() -> bool:
            seen = len(load.answered)
            await load.more(200)
            return load.answered[seen:].count("b") / len(load.answered[seen:]) > 0.4

        await eventually(has_its_share, 60)
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
            await eventually(lambda: pair.has_healthy(2), timeout_seconds=60)
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


async def test_a_call_waits_for_the_only_instance_to_be_back(pair: Proxy) -> None:
    """Its channel does: the proxy says at once that nobody is there."""
    await pair.leave("a")
    async with caller(pair.target, patience_seconds=60.0) as reasoning:
        before = await pair.statistics("cluster.reasoning.")
        pair.instances["a"].kill()
        call = asyncio.create_task(reasoning.embed(timeout=120))

        async def was_tried() -> bool:
            counts = await pair.statistics("cluster.reasoning.")
            return counts["upstream_cx_connect_fail"] > before["upstream_cx_connect_fail"]

        await eventually(was_tried, 60)
        pair.instances["a"].start()
        assert await call == "a"


async def test_batches_go_on_while_an_instance_leaves(pair: Proxy) -> None:
    """The streams of an executor last for a moment: the next ones go to who is there."""
    async with caller(pair.target, "executor") as reasoning:
        stream = BatchStream[pb.BatchGenerateItem](
            reasoning.stub.BatchGenerateStream,
            pb.BatchGenerateStreamRequest,
            who="reasoning",
            timeout_seconds=60,
        )
        calls = Coalescer[pb.BatchGenerateItem, pb.GenerateResponse](stream.send)
        answered: list[str] = []
        stopping = asyncio.Event()

        async def call() -> None:
            while not stopping.is_set():
                answered.append((await calls.call(pb.BatchGenerateItem())).model)

        working = [asyncio.create_task(call()) for _ in range(8)]
        await eventually(lambda: {*answered} == {"a", "b"}, 60)
        pair.write([pair.instances["b"].port])
        await eventually(lambda: {*answered[-100:]} == {"b"}, 60)
        await pair.instances["a"].end()
        seen = len(answered)
        await eventually(lambda: len(answered) > seen + 100, 60)
        stopping.set()
        await asyncio.gather(*working)


async def test_a_slower_instance_gets_less(tmp_path: Path) -> None:
    """By its own reports of how busy it is, though callers would wait for it."""
    async with proxy(tmp_path, "quick", SLOW) as running, caller(running.target) as reasoning:
        load = _Load(reasoning)

        async def gets_less() -> bool:
            seen = len(load.answered)
            await load.more(150)
            recent = load.answered[seen:]
            return 0 < recent.count(SLOW) < len(recent) / 4

        # Evenly dealt, each would have half of the calls.
        await eventually(gets_less, 60)
        await load.end()
