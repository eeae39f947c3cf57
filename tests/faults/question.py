"""What users ask, and what the answer is."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from agentmesh.common.v1 import tier_pb2

TENANTS: Final = ("alpha", "beta", "gamma")
LANES: Final = (tier_pb2.LANE_INTERACTIVE, tier_pb2.LANE_STANDARD, tier_pb2.LANE_BATCH)
# Every tenant has it: it may wait, and have others do its work.
HELPER: Final = "helper"
_STEPS: Final = ("model_called", "tool_called", "completed")


@dataclass(frozen=True, slots=True)
class Question:
    """What a user asks."""

    request_id: str
    tenant: str
    lane: tier_pb2.Lane
    text: str
    # What its answer has to name.
    answers: tuple[str, ...]
    # The id of the agent; empty for the one that comes with the mesh.
    agent: str = ""
    # The steps of its task, by their events' kinds.
    steps: tuple[str, ...] = _STEPS


# Makes a question of a number, in such a place.
Kind = Callable[[str, str, tier_pb2.Lane, int], Question]


def sum_of(request_id: str, tenant: str, lane: tier_pb2.Lane, number: int) -> Question:
    """A calculation: the model, the tool, the model."""
    text, answer = _sum(number)
    return Question(request_id, tenant, lane, text, (answer,))


def sum_after_a_while(request_id: str, tenant: str, lane: tier_pb2.Lane, number: int) -> Question:
    """The task waits for a timer first."""
    text, answer = _sum(number)
    steps = (*_STEPS[:2], *_STEPS)
    return Question(request_id, tenant, lane, f"Wait 1 second. {text}", (answer,), HELPER, steps)


def sums_by_others(request_id: str, tenant: str, lane: tier_pb2.Lane, number: int) -> Question:
    """The task waits for two child tasks."""
    (first, one), (second, other) = _sum(number), _sum(number + 1_000_000)
    return Question(request_id, tenant, lane, f"Delegate: {first}; {second}", (one, other), HELPER)


PLAIN: Final[Sequence[Kind]] = (sum_of,)
MIXED: Final[Sequence[Kind]] = (sum_of, sum_of, sum_after_a_while, sums_by_others)


def tenants_of(test: str) -> Sequence[str]:
    """Tenants of whom a mesh has not heard before, where several tests have it in turn."""
    return [f"{each}-{test.replace(' ', '-')}" for each in TENANTS]


def questions(
    seed: int,
    *,
    kinds: Sequence[Kind] = PLAIN,
    lanes: Sequence[tier_pb2.Lane] = LANES,
    tenants: Sequence[str] = TENANTS,
) -> Iterator[Question]:
    """Questions without end, none of them twice."""
    chance = random.Random(seed)
    number = 0
    while True:
        ask, tenant, lane = chance.choice(kinds), chance.choice(tenants), chance.choice(lanes)
        yield ask(f"{seed}-{number}", tenant, lane, number)
        number += 1


def _sum(number: int) -> tuple[str, str]:
    return f"What is {number} * 7 + 1?", str(number * 7 + 1)
