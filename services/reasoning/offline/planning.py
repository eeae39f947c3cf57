"""Plans and delegations, as agents' patterns ask for them: the parts of a request."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Final

from agentmesh.reasoning.v1 import reasoning_service_pb2 as pb
from services.reasoning.offline.phases import most, workers
from services.reasoning.offline.plan import Planner
from services.reasoning.offline.turn import Turn
from services.reasoning.offline.words import content_stems

# A part that begins so is about what the part before it is about.
_GOES_ON: Final = re.compile(
    r"(?:and\s+)?(?:(?:what|when|where|who|why|how)\s+\w+\s+)?"
    r"(?:it|its|they|them|their|he|she|his|her|this|that|these|those)\b",
    re.IGNORECASE,
)


def plan(turn: Turn, planner: Planner, tools: Sequence[pb.ToolSpec]) -> str:
    """The parts of the request as steps, in JSON; none where there is nothing to do for it."""
    return _steps(_joined(_parts(turn, planner, tools), most(turn.instruction)))


def correct(turn: Turn, planner: Planner, tools: Sequence[pb.ToolSpec]) -> str:
    """The steps that were not tried yet: for one that was blocked the rules know no other way."""
    tried = {work.request for work in turn.done}
    left = [part for part in _parts(turn, planner, tools) if part not in tried]
    return _steps(_joined(left, most(turn.instruction)))


def delegate(turn: Turn, planner: Planner) -> str:
    """Each part of the request, for the worker whose description has most of its words."""
    known = workers(turn.instruction)
    parts: list[str] = []
    for part in _parts(turn, planner, ()) or [turn.request.request.strip()]:
        if parts and _GOES_ON.match(part):
            # A worker sees its own part alone.
            parts[-1] = f"{parts[-1]} {part}"
        else:
            parts.append(part)
    given = [
        {"worker": _worker(part, known), "text": part}
        for part in _joined(parts, most(turn.instruction))
        if known and part
    ]
    return json.dumps({"parts": given}, ensure_ascii=False)


def _parts(turn: Turn, planner: Planner, tools: Sequence[pb.ToolSpec]) -> list[str]:
    parts = planner.parts(turn.request.request, before=turn.request.request_before, tools=tools)
    return list(dict.fromkeys(part.text for part in parts))


def _steps(steps: Sequence[str]) -> str:
    return json.dumps({"steps": steps}, ensure_ascii=False)


def _joined(parts: list[str], limit: int) -> list[str]:
    """At most `limit` parts: the last one says all that is left."""
    if not 0 < limit < len(parts):
        return parts
    return [*parts[: limit - 1], " ".join(parts[limit - 1 :])]


def _worker(part: str, known: Mapping[str, str]) -> str:
    """The first of those that fit best."""
    about = set(content_stems(part))
    return max(
        known,
        key=lambda worker: len(about.intersection(content_stems(f"{worker} {known[worker]}"))),
    )
