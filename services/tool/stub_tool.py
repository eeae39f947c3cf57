"""The built-in tool `stub`, for measuring; there only where a setting asks for it."""

import asyncio
from typing import Final

from services.tool.tool import Answer, Effect, Invocation, ToolSpec

_MAX_CHARACTERS: Final = 10_000
# What it answers, in bytes: those of the published comparisons.
_BYTES: Final = 200
_ANSWER: Final = Answer("The stub tool has done nothing. ".ljust(_BYTES, "r"))
_SPEC: Final = ToolSpec(
    id="stub",
    description="Takes a text and answers with a fixed one, after a set time. For measuring.",
    parameters={
        "type": "object",
        "properties": {
            "text": {
                "type": "string",
                "maxLength": _MAX_CHARACTERS,
                "description": "Anything.",
            }
        },
        "required": ["text"],
        "additionalProperties": False,
    },
    effect=Effect.READ_ONLY,
    # Longer than the longest latency that can be set.
    timeout_seconds=90.0,
)


class StubTool:
    """Answers every text with the same one."""

    def __init__(self, *, latency_seconds: float) -> None:
        """`latency_seconds`: how long each call takes; 0 for none."""
        self._latency_seconds: Final = latency_seconds

    @property
    def spec(self) -> ToolSpec:
        """What it is."""
        return _SPEC

    async def execute(self, invocation: Invocation) -> Answer:
        """Waits, and answers."""
        if self._latency_seconds:
            await asyncio.sleep(self._latency_seconds)
        return _ANSWER
