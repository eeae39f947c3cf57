"""Call records in Redis."""

from pathlib import Path
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from agentmesh.common.v1.conversation_pb2 import ToolResult
from meshkit.clock import Clock
from meshkit.redis_store import Script, unavailable
from services.tool.call_record import (
    Begun,
    CallKey,
    Finished,
    Interrupted,
    OtherCall,
    Running,
)
from services.tool.convert import answer_from_result, answer_to_result
from services.tool.tool import Answer

_SCRIPT: Final = Path(__file__).with_name("call_record.lua")
# A call whose outcome is unknown stays known as such for longer than any task
# may wait for a person: forgotten, it would be executed again.
_KEEP_STARTED_SECONDS: Final = 30 * 86_400


class RedisCallRecords:
    """Records of all tenants, each tenant's in one slot of a cluster."""

    def __init__(self, store: Redis, clock: Clock, *, keep_seconds: int) -> None:
        """`keep_seconds`: for how long repeats are answered from a record."""
        self._script: Final = Script(store, _SCRIPT.read_text("utf-8"))
        self._clock: Final = clock
        self._keep_seconds: Final = keep_seconds

    async def begin(
        self, call: CallKey, *, lease_seconds: float, take_over: bool
    ) -> Begun | Finished | Running | Interrupted | OtherCall:
        """Records the call as started by us, unless it was recorded before."""
        now = round(self._clock.now().timestamp() * 1000)
        answer = await self._run(
            call,
            "begin",
            call.digest,
            now,
            now + round(lease_seconds * 1000),
            _KEEP_STARTED_SECONDS * 1000,
            int(take_over),
        )
        match answer[0]:
            case b"begun":
                return Begun()
            case b"finished":
                return Finished(answer_from_result(ToolResult.FromString(answer[1])))
            case b"running":
                return Running()
            case b"interrupted":
                return Interrupted()
            case _:
                return OtherCall()

    async def finish(self, call: CallKey, answer: Answer) -> None:
        """Records the answer, for all repeats to come. The first one stays."""
        result = answer_to_result(answer).SerializeToString()
        await self._run(call, "finish", result, self._keep_seconds * 1000)

    async def abandon(self, call: CallKey) -> None:
        """Ends our lease without an answer: the call counts as interrupted at once."""
        await self._run(call, "abandon")

    async def forget(self, call: CallKey) -> None:
        """Takes back a beginning of ours after which nothing was executed."""
        await self._run(call, "forget")

    async def _run(self, call: CallKey, *arguments: str | bytes | int) -> Any:
        try:
            return await self._script.run([f"tool:{{{call.tenant}}}:call:{call.key}"], arguments)
        except RedisError as error:
            raise unavailable(error) from error
