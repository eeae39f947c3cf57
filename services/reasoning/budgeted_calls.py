"""Test-only: calls of a paid model, what they cost, and what a governor may answer."""

from collections.abc import Callable
from typing import Final

from agentmesh.governor.v1 import cost_governor_service_pb2 as governor_pb
from agentmesh.reasoning.v1 import reasoning_service_pb2 as pb
from meshkit import errors
from meshtest.eventually import eventually
from services.reasoning.fixture_reasoning import Bench
from services.reasoning.prompts import said
from services.reasoning.token_estimate import prompt_tokens

BUDGET: Final = "tenants/default/budgets/tenant-day"
DOWN: Final = errors.DependencyUnavailable("Redis is down.")


def call_request(model: str = "paid", **fields: object) -> pb.GenerateRequest:
    """A greeting, which the paid model answers."""
    request = pb.GenerateRequest(messages=[said("Hello")], model=model)
    request.MergeFrom(pb.GenerateRequest(**fields))  # pyright: ignore[reportArgumentType]
    return request


def always(
    response: governor_pb.AdmitResponse,
) -> Callable[[governor_pb.AdmitRequest], governor_pb.AdmitResponse]:
    """A governor that answers this to each."""

    def decide(request: governor_pb.AdmitRequest) -> governor_pb.AdmitResponse:
        return response

    return decide


async def let_settle(bench: Bench) -> None:
    """The moment in which settlements wait for company, or for another attempt."""
    await eventually(lambda: bench.clock.sleeping == 1)
    await bench.clock.advance(0.1)


INPUT_TOKENS: Final = prompt_tokens(call_request().messages, ())
OUTPUT_TOKENS: Final = 5  # of "All is well today."
COST_MICROS: Final = 2 * (INPUT_TOKENS + OUTPUT_TOKENS)
