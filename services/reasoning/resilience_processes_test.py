"""Several processes, one endpoint, one Redis: what goes out when it fails."""

import asyncio
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Final

import pytest
import pytest_asyncio

from meshkit import redis_store
from meshkit.redis_line import RedisLine
from meshtest.eventually import eventually
from meshtest.redis_server import RedisServer
from services.reasoning.endpoint_standing import BreakerRules, Standing
from services.reasoning.endpoint_standings_redis import RedisStandings

pytest_plugins = ["meshtest.fixtures"]
pytestmark = pytest.mark.asyncio(loop_scope="module")

_PROCESSES: Final = 3
# Of each of them, at once.
_HERD: Final = 60
_PACE: Final = 25
_BAD_SECONDS: Final = 4.0


class _Upstream:
    """Answers connections with a line, hangs up on them, or holds them."""

    def __init__(self) -> None:
        self.came = 0
        self.fails_every = 0
        self.go_on: Final = asyncio.Event()
        self.go_on.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.came += 1
        number = self.came
        await self.go_on.wait()
        if not self.fails_every or number % self.fails_every:
            writer.write(b"well\n")
            with suppress(ConnectionError):
                await writer.drain()
        writer.close()


class _Process:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        # What became of its calls.
        self.outcomes: Final[Counter[str]] = Counter()
        self._process: Final = process
        self._reading: Final = asyncio.create_task(self._read())

    def order(self, text: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{text}\n".encode())

    async def kill(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        await self._reading

    async def _read(self) -> None:
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            self.outcomes[line.decode().strip()] += 1


async def _standing(redis_server: RedisServer) -> Standing:
    """How the endpoint stands, as all processes see it."""
    async with redis_store.connect(redis_server.url) as redis, RedisLine(redis) as line:
        return await RedisStandings(line, BreakerRules(), lambda: 1.0).report("large", 0, 0)


async def _half_open(redis_server: RedisServer) -> bool:
    """Whether the pause of the endpoint's breaker is over."""
    standing = await _standing(redis_server)
    return standing.open and standing.probing_in_seconds == 0


async def _end_probes(redis_server: RedisServer) -> None:
    """Has the time of all probes that are out be over, as Redis knows it."""
    async with redis_store.connect(redis_server.url) as redis, RedisLine(redis) as line:
        key = "endpoint:{large}:probes"
        (probes,) = await line.ask([("ZRANGE", key, 0, -1)])
        for probe in probes:
            await line.ask([("ZADD", key, 0, probe)])


async def _heard(process: _Process, calls: int) -> None:
    """Waits until it is known what became of so many calls."""
    await eventually(lambda: sum(process.outcomes.values()) == calls)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def upstream() -> AsyncIterator[tuple[_Upstream, int]]:
    upstream = _Upstream()
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0, backlog=1024)
    yield upstream, server.sockets[0].getsockname()[1]
    upstream.go_on.set()
    server.close()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def processes(
    shared_redis: RedisServer, upstream: tuple[_Upstream, int]
) -> AsyncIterator[list[_Process]]:
    """For all tests; the last one kills some of them."""
    made = [
        _Process(
            await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "services.reasoning.resilience_program"),
                *(shared_redis.url, str(upstream[1])),
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
        )
        for _ in range(_PROCESSES)
    ]
    for each in made:
        each.order("calls 1")
    for each in made:
        await _heard(each, 1)
    yield made
    for each in made:
        await each.kill()


async def test_errors_of_half_of_all_calls_are_not_answered_with_many_more(
    upstream: tuple[_Upstream, int], processes: list[_Process]
) -> None:
    """At most a fifth more calls than were asked for, and none more once it works again."""
    server, _ = upstream

    async def made(order: str, calls: int) -> int:
        """How many calls went out for that many that were asked for."""
        before = server.came
        for each in processes:
            each.outcomes.clear()
            each.order(order)
        for each in processes:
            await _heard(each, calls)
        return server.came - before

    server.fails_every = 2
    asked = int(_PACE * _BAD_SECONDS)
    assert await made(f"pace {_PACE} {_BAD_SECONDS:g}", asked) <= 1.2 * asked * _PROCESSES
    server.fails_every = 0

    async def all_well() -> bool:
        await made("calls 1", 1)
        return all(each.outcomes["ANSWERED"] for each in processes)

    assert await eventually(all_well)
    assert await made(f"pace {_PACE} 2", 2 * _PACE) == 2 * _PACE * _PROCESSES


async def test_a_herd_over_processes_sends_the_permitted_probes_and_no_more(
    shared_redis: RedisServer, upstream: tuple[_Upstream, int], processes: list[_Process]
) -> None:
    """However many call over three processes at once: three calls go out.

    Those of processes that die may be made again when their time is over, and one that
    works closes the breaker.
    """
    server, _ = upstream
    server.fails_every = 1

    async def opened() -> bool:
        """Calls that work are counted with those that fail for as long as its window lasts."""
        processes[0].outcomes.clear()
        processes[0].order("calls 40")
        await _heard(processes[0], 40)
        return (await _standing(shared_redis)).open

    assert await eventually(opened)
    # A process that looks in vain for what the others know lets its calls out.
    for each in processes[1:]:
        each.outcomes.clear()
        each.order("calls 1")
        await _heard(each, 1)
    server.fails_every = 0
    server.go_on.clear()
    before = server.came
    await eventually(lambda: _half_open(shared_redis))
    for each in processes:
        each.outcomes.clear()
        each.order(f"calls {_HERD}")

    refused_calls = _PROCESSES * _HERD - 3

    def refused() -> bool:
        outcomes = [dict(each.outcomes) for each in processes]
        assert sum(each.get("BREAKER_OPEN", 0) for each in outcomes) == refused_calls, outcomes
        return True

    await eventually(refused)
    assert server.came == before + 3
    probers = [each for each in processes if each.outcomes["BREAKER_OPEN"] < _HERD]
    living = [each for each in processes if each not in probers] or processes[:1]
    for each in probers:
        if each not in living:
            await each.kill()
    await _end_probes(shared_redis)
    server.go_on.set()

    def answers() -> bool:
        living[0].order("calls 1")
        return living[0].outcomes["ANSWERED"] > 0

    assert await eventually(answers)
