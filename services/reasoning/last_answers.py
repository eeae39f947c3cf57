"""The last answers of models, for the time when none can be reached."""

import asyncio
import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final, Protocol

from agentmesh.reasoning.v1 import reasoning_service_pb2 as pb
from meshkit.clock import Clock
from meshkit.errors import MeshError
from meshkit.time_limit import within
from services.reasoning.generation import Completion, Generation, ModelCall, StopReason
from services.reasoning.model import ModelSpec, Tier

# Longer ones are not kept.
_MOST_BYTES: Final = 64 * 1024
# Answers on their way to the other processes; more are kept here alone.
_MOST_SENDING: Final = 64
_ANSWER_SECONDS: Final = 0.25


@dataclass(frozen=True, slots=True)
class LastAnswer:
    """An answer as it is kept: without what was asked."""

    # GenerateResponse, encoded.
    response: bytes
    # Seconds since 1970.
    given_at: int


class SharedAnswers(Protocol):
    """Where processes keep answers for each other. Each method raises DependencyUnavailable."""

    async def put(self, tenant: str, digest: str, answer: LastAnswer, *, seconds: int) -> None:
        """Keeps an answer for so long."""
        ...

    async def get(self, tenant: str, digest: str) -> LastAnswer | None:
        """The answer; None where there is none."""
        ...


class LastAnswers:
    """What was answered to the same request of the same tenant."""

    def __init__(
        self,
        shared: SharedAnswers,
        *,
        seconds: int,
        most: int,
        clock: Clock,
    ) -> None:
        """`seconds`: how long an answer is kept. `most`: how many of them in this process."""
        self._shared: Final = shared
        self._seconds: Final = seconds
        self._most: Final = most
        self._clock: Final = clock
        # The one longest unused first.
        self._own: Final[OrderedDict[str, LastAnswer]] = OrderedDict()
        self._sending: Final[set[asyncio.Task[None]]] = set()

    def keep(self, call: ModelCall, generation: Generation) -> None:
        """Keeps an answer that is whole and was made as asked."""
        completion = generation.completion
        if completion.stop_reason is not StopReason.END or generation.degradations:
            return
        response = pb.GenerateResponse(
            message=completion.message,
            model=generation.model.name,
            tier=generation.tier.value,
            citations=completion.citations,
        )
        if completion.data is not None:
            response.data.CopyFrom(completion.data)
        answer = LastAnswer(response.SerializeToString(), int(self._clock.now().timestamp()))
        if len(answer.response) > _MOST_BYTES:
            return
        digest = request_digest(call)
        self._put(digest, answer)
        if len(self._sending) < _MOST_SENDING:
            task = asyncio.create_task(self._send(call.spending.tenant, digest, answer))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)

    async def find(self, call: ModelCall) -> Generation | None:
        """The last answer; None where there is none that is young enough."""
        digest = request_digest(call)
        answer = self._own.get(digest)
        if answer is None:
            try:
                with within(_ANSWER_SECONDS):
                    answer = await self._shared.get(call.spending.tenant, digest)
            except (MeshError, TimeoutError):
                return None
        if answer is None:
            return None
        age = max(0, int(self._clock.now().timestamp()) - answer.given_at)
        if age > self._seconds:
            self._own.pop(digest, None)
            return None
        return _again(call, answer, age)

    async def close(self) -> None:
        """Waits a moment for the answers that are on their way."""
        if self._sending:
            _, late = await asyncio.wait(self._sending, timeout=_ANSWER_SECONDS)
            for each in late:
                each.cancel()

    def _put(self, digest: str, answer: LastAnswer) -> None:
        self._own[digest] = answer
        self._own.move_to_end(digest)
        while len(self._own) > self._most:
            self._own.popitem(last=False)

    async def _send(self, tenant: str, digest: str, answer: LastAnswer) -> None:
        try:
            with within(_ANSWER_SECONDS):
                await self._shared.put(tenant, digest, answer, seconds=self._seconds)
        except (MeshError, TimeoutError):
            # It is kept here.
            return


def request_digest(call: ModelCall) -> str:
    """The same for the same request of the same tenant, and for no other."""
    prompt = call.prompt
    asked = hashlib.sha256()
    parameters = (
        *(call.spending.tenant, call.tier.name, call.model.name if call.named else ""),
        *(prompt.max_output_tokens, prompt.temperature, tuple(prompt.stop), prompt.seed),
        prompt.output_schema,
    )
    asked.update(repr(parameters).encode())
    for each in (*prompt.messages, *prompt.tools):
        encoded = each.SerializeToString(deterministic=True)
        asked.update(b"\0%d:%s:" % (len(encoded), type(each).__name__.encode()))
        asked.update(encoded)
    return asked.hexdigest()


def _again(call: ModelCall, answer: LastAnswer, age_seconds: int) -> Generation:
    response = pb.GenerateResponse.FromString(answer.response)
    completion = Completion(
        response.message,
        StopReason.END,
        input_tokens=0,
        output_tokens=0,
        citations=tuple(response.citations),
        data=response.data if response.HasField("data") else None,
    )
    model: ModelSpec = call.model
    sentence = (
        f"No model could be reached: this is what {response.model} answered"
        f" to the same request {_ago(age_seconds)} ago."
    )
    return Generation(completion, model, Tier(response.tier), 0, (sentence,))


def _ago(seconds: int) -> str:
    for size, name in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if (count := seconds // size) > 0:
            return f"{count} {name}{'s' if count > 1 else ''}"
    return f"{seconds} second{'' if seconds == 1 else 's'}"
