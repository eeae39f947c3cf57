"""What reasoning lets through is settled, for what reasoning reckons that it cost."""

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agentmesh.common.v1.conversation_pb2 import ROLE_USER, Message, Part
from agentmesh.reasoning.v1 import reasoning_service_pb2 as pb
from meshkit import identity
from meshkit.errors import InvalidField, Violation
from meshkit.identity import Identity
from services.governor import price_file
from services.governor.convert import made_call
from services.reasoning.convert import generation_request
from services.reasoning.generation import Spending
from services.reasoning.governor import Settlement
from services.reasoning.governor_grpc import (
    _settle_request,  # pyright: ignore[reportPrivateUsage]
)
from services.reasoning.model import Tier
from services.reasoning.price_list import load_prices

_WHO = Identity("acme", "service:executor")
_MESSAGE = Message(role=ROLE_USER, parts=[Part(text="Hello")])
_BOOK = Path(__file__).parents[1] / "governor" / "prices.yaml"
_CHARGES = price_file.load_prices(_BOOK)
_RECKONS = load_prices(_BOOK)
_PRICED = [(version, model) for version, models in _RECKONS.versions.items() for model in models]
_NO_WORD = "must have at most 200 characters, no blank and no control character"
# Of all kinds, and often just what a word or a key must not have.
_TEXTS = st.text(max_size=8) | st.text("a/@# \t\n\0\x1f\x7f\x85\xa0\u2028", max_size=210)


def _request(**fields: str) -> pb.GenerateRequest:
    return pb.GenerateRequest(messages=[_MESSAGE], model="paid", **fields)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("field", "given", "description"),
    [
        ("task_type", "with a blank", _NO_WORD),
        ("agent", "x" * 201, _NO_WORD),
        ("session", "two words", _NO_WORD),
        ("session", "\0", _NO_WORD),
        ("spend_key", "a\nb", "must have no control character"),
    ],
)
def test_what_the_governor_would_refuse_is_refused_before_the_call(
    field: str, given: str, description: str
) -> None:
    """By its path: afterwards the model is paid, and nobody would be charged."""
    with identity.use(_WHO), pytest.raises(InvalidField) as caught:
        generation_request(_request(**{field: given}), by=_WHO.caller, within="request.")
    assert caught.value.violations == (Violation(f"request.{field}", description),)


@given(task_type=_TEXTS, agent=_TEXTS, session=_TEXTS, key=_TEXTS)
@example("chat", "tenants/acme/agents/helper@3", "tenants/acme/sessions/s1", "t/1/2")
def test_the_governor_settles_what_reasoning_lets_through(
    task_type: str, agent: str, session: str, key: str
) -> None:
    """Whatever words and keys it comes with."""
    request = _request(task_type=task_type, agent=agent, session=session, spend_key=key or "own")
    with identity.use(_WHO):
        try:
            asked = generation_request(request, by=_WHO.caller)
        except InvalidField:
            return
        made = made_call(_settle_request(Settlement(asked.spending, "paid", 1, 1, Tier.FAST)))
    assert made.key == request.spend_key
    assert task_type == made.task_type


@given(st.sampled_from(_PRICED), st.integers(0, 10**9), st.integers(0, 10**9), st.data())
def test_the_governor_charges_to_the_micro_what_reasoning_reckons(
    priced: tuple[str, str], sent: int, received: int, data: st.DataObject
) -> None:
    """Of every price in the book, with any part of the input cached."""
    version, model = priced
    cached = data.draw(st.integers(0, sent))
    settlement = Settlement(
        Spending("acme", _WHO.caller, "k"),
        model,
        sent,
        received,
        Tier.FAST,
        version,
        cached_input_tokens=cached,
    )
    with identity.use(_WHO):
        made = made_call(_settle_request(settlement))
    usage = made.usage
    charged = _CHARGES.price(made.model, made.price_version).cost_micros(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cached_input_tokens=usage.cached_input_tokens,
    )
    assert charged == _RECKONS.versions[version][model].cost_micros(sent, received, cached)
