"""Executes tools: arguments checked, time limited, effects done once a key."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final

from google.protobuf.struct_pb2 import Struct

from meshkit import deadline
from meshkit.clock import Clock
from meshkit.errors import (
    DeadlineExceeded,
    DependencyUnavailable,
    Internal,
    InvalidField,
    MeshError,
    OutcomeUnknown,
    ToolNotFound,
)
from meshkit.ids import Ids
from meshkit.log import Log
from meshkit.time_limit import within
from meshkit.unbroken import Unbroken
from services.tool.arguments import ArgumentSchema
from services.tool.call_record import (
    Begun,
    CallKey,
    CallRecords,
    Finished,
    Found,
    Interrupted,
    OtherCall,
    Running,
)
from services.tool.tool import Answer, Effect, Invocation, Json, Tool, ToolFault, ToolSpec

# A lease outlives the tool's time limit by this, for the record to be written.
_LEASE_MARGIN_SECONDS: Final = 5.0
# How often a repeat looks whether the first one is done.
_FIRST_LOOK_SECONDS: Final = 0.05
_SLOWEST_LOOK_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class ToolRequest:
    """A call that somebody wants executed."""

    tenant: str
    tool: str
    arguments: Struct
    # The same across attempts of the same call.
    idempotency_key: str = ""
    # The session on whose behalf; empty for none.
    session: str = ""


@dataclass(frozen=True, slots=True)
class Execution:
    """What came of a call."""

    answer: Answer
    # Answered from the record of an earlier execution.
    replayed: bool
    duration_seconds: float


class ToolExecutor:
    """Knows the tools and executes them."""

    def __init__(
        self,
        tools: Sequence[Tool],
        *,
        records: CallRecords,
        unbroken: Unbroken,
        clock: Clock,
        ids: Ids,
        log: Log,
    ) -> None:
        """`unbroken`: what is recorded of a call is, though its caller is gone by then."""
        self._tools: Final = {
            each.spec.id: (each, ArgumentSchema(each.spec))
            for each in sorted(tools, key=lambda each: each.spec.id)
        }
        self._records: Final = records
        self._unbroken: Final = unbroken
        self._clock: Final = clock
        self._ids: Final = ids
        self._log: Final = log

    def list(self) -> Sequence[ToolSpec]:
        """All tools in order of their ids."""
        return [tool.spec for tool, _ in self._tools.values()]

    def get(self, tool: str) -> ToolSpec:
        """What a tool is; ToolNotFound where there is none of this name."""
        return self._find(tool)[0].spec

    async def execute(self, request: ToolRequest) -> Execution:
        """Executes a tool; its failure is an answer with `is_error`.

        Raises ToolNotFound, InvalidToolArguments, InvalidField (no key for a
        tool that changes something, or the key of another call),
        OutcomeUnknown, DeadlineExceeded, and what the tool needs and lacks.
        """
        tool, schema = self._find(request.tool)
        invocation = Invocation(
            request.tenant,
            schema.read(request.arguments),
            request.idempotency_key,
            request.session,
        )
        if tool.spec.effect is Effect.READ_ONLY:
            return await self._run(tool, invocation)
        return await self._run_once(tool, invocation)

    def _find(self, name: str) -> tuple[Tool, ArgumentSchema]:
        found = self._tools.get(name)
        if found is None:
            close = get_close_matches(name[:64], self._tools, n=1, cutoff=0.4)
            guess = f"Did you mean {close[0]}?" if close else f"Known are {', '.join(self._tools)}."
            raise ToolNotFound(
                f"There is no tool {name[:64]!r}. {guess}", metadata={"tool": name[:64]}
            )
        return found

    async def _run(self, tool: Tool, invocation: Invocation) -> Execution:
        """Executes within the tool's time limit and that of the caller."""
        own_seconds = tool.spec.timeout_seconds
        seconds = deadline.timeout_for(own_seconds)
        started = self._clock.monotonic_seconds()
        limit = within(seconds)
        try:
            with deadline.limit(seconds), limit:
                answer = await tool.execute(invocation)
        except ToolFault as fault:
            answer = Answer(str(fault), is_error=True)
        except MeshError:
            raise
        except Exception as error:
            if isinstance(error, TimeoutError) and limit.ran_out:
                raise DeadlineExceeded(
                    f"The tool {tool.spec.id} was not done within {seconds:.3g} seconds.",
                    metadata={"limit": "tool" if seconds >= own_seconds else "call"},
                ) from error
            why = self._crashed(tool)
            if tool.spec.effect is Effect.UNSAFE:
                # It may have done it first. A model that read this would call again.
                raise Internal(why) from error
            answer = Answer(why, is_error=True)
        return Execution(
            answer, replayed=False, duration_seconds=self._clock.monotonic_seconds() - started
        )

    def _crashed(self, tool: Tool) -> str:
        """Logs why; what others are told."""
        error_id = self._ids.new()
        self._log.exception("tool.crashed", tool=tool.spec.id, error_id=error_id)
        return (
            f"The tool {tool.spec.id} failed by a fault of its own; the log has it as {error_id}."
        )

    async def _run_once(self, tool: Tool, invocation: Invocation) -> Execution:
        """Executes unless the record says that it was done."""
        spec = tool.spec
        if not invocation.idempotency_key:
            raise InvalidField(
                "idempotency_key",
                f"is required, since {spec.id} changes something; keep it the same across attempts",
            )
        call = CallKey(
            invocation.tenant,
            invocation.idempotency_key,
            _digest(spec.id, invocation.arguments),
        )
        earlier = await self._begin(spec, call)
        if earlier is not None:
            return Execution(earlier, replayed=True, duration_seconds=0.0)
        try:
            execution = await self._run(tool, invocation)
        except BaseException as error:
            # Cancelled, out of time, crashed, or without something it needs: the
            # effect may have happened or not.
            await self._unbroken.run(self._abandon(call))
            if spec.effect is Effect.UNSAFE and isinstance(error, MeshError):
                raise _outcome_unknown(spec, str(error)) from error
            raise
        try:
            await self._unbroken.run(self._records.finish(call, execution.answer))
        except DependencyUnavailable as error:
            # It is done: the answer is worth more than its record.
            self._log.warning("tool.unrecorded", tool=spec.id, cause=str(error))
        return execution

    async def _begin(self, spec: ToolSpec, call: CallKey) -> Answer | None:
        """None if the call is ours to execute; the answer if it was executed before."""
        pause_seconds = _FIRST_LOOK_SECONDS
        while True:
            found = await self._unbroken.run(
                self._records.begin(
                    call,
                    lease_seconds=spec.timeout_seconds + _LEASE_MARGIN_SECONDS,
                    take_over=spec.effect is Effect.IDEMPOTENT,
                ),
                undo=lambda found: self._not_begun(call, found),
            )
            match found:
                case Begun():
                    return None
                case Finished(answer):
                    return answer
                case Interrupted():
                    raise _outcome_unknown(spec, "whoever executed it is gone")
                case OtherCall():
                    raise InvalidField(
                        "idempotency_key",
                        "was used for another tool or with other arguments; give each call its own",
                    )
                case Running():
                    # An earlier attempt is at it. Its lease ends, and so does this.
                    await self._clock.sleep(deadline.timeout_for(pause_seconds))
                    pause_seconds = min(pause_seconds * 2, _SLOWEST_LOOK_SECONDS)

    async def _not_begun(self, call: CallKey, found: Found) -> None:
        """Nobody is there any more to execute what was begun."""
        if isinstance(found, Begun):
            with suppress(DependencyUnavailable):
                await self._records.forget(call)

    async def _abandon(self, call: CallKey) -> None:
        with suppress(DependencyUnavailable):
            await self._records.abandon(call)


def _digest(tool: str, arguments: Mapping[str, Json]) -> str:
    content = json.dumps([tool, arguments], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(content.encode()).hexdigest()[:32]


def _outcome_unknown(spec: ToolSpec, cause: str) -> OutcomeUnknown:
    return OutcomeUnknown(
        f"An execution of {spec.id} ended without an answer ({cause}). Nobody knows whether it"
        " was done, and it must not be repeated blindly: look, and decide.",
        metadata={"tool": spec.id},
    )
