"""The ledger takes all that Settle takes."""

from typing import Any

import pytest

from agentmesh.common.v1.usage_pb2 import Usage
from agentmesh.governor.v1 import cost_governor_service_pb2 as pb
from meshkit import identity
from meshkit.errors import InvalidField
from services.governor import convert
from services.governor.ledger_charge import Charge, Figures
from services.governor.ledger_refused import refusal_of
from services.governor.price_book import MAX_PRICE_MICROS, ModelPrice

_MOST_TOKENS = 1_000_000_000
_CHARGE = Charge("acme", "k", "chat", "helper", "m", 1, "t", "s", "1", 5, 0, 0, Figures())


def _settle(tokens: int) -> pb.SettleRequest:
    usage = Usage(input_tokens=tokens, output_tokens=tokens)
    return pb.SettleRequest(parent="tenants/acme", key="k", model="m", usage=usage)


def test_the_dearest_call_that_can_be_settled_is_charged() -> None:
    """So nothing is refused by the ledger for its cost that Settle has taken."""
    with identity.use(identity.Identity("acme", "service:test")):
        call = convert.made_call(_settle(_MOST_TOKENS))
        with pytest.raises(InvalidField):
            convert.made_call(_settle(_MOST_TOKENS + 1))
    usage = call.usage
    price = ModelPrice(*[MAX_PRICE_MICROS] * 5)
    cost = price.cost_micros(input_tokens=usage.input_tokens, output_tokens=usage.output_tokens)
    figures = Figures(usage.input_tokens, usage.output_tokens, cost_micros=cost)
    assert refusal_of(_CHARGE._replace(figures=figures)) is None
    dearer = figures._replace(cost_micros=cost + 1)
    assert refusal_of(_CHARGE._replace(figures=dearer)) is not None


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"tenant": ""}, "It names no tenant, or has no key."),
        ({"key": ""}, "It names no tenant, or has no key."),
        ({"figures": Figures(-1)}, "A figure is under 0 or over 20000000000000."),
        ({"tier": -1}, "There is no such tier."),
        ({"tier": 2**15}, "There is no such tier."),
        ({"settled_micros": -1}, "A time is before 1970, or after the year 9999."),
        ({"called_micros": 2**62}, "A time is before 1970, or after the year 9999."),
        ({"agent": "a\0b"}, "A text has a NUL character."),
        ({"price_version": "\0"}, "A text has a NUL character."),
    ],
)
def test_what_no_database_can_hold_is_refused(changed: dict[str, Any], reason: str) -> None:
    """By itself, and with a reason that an operator understands."""
    refusal = refusal_of(_CHARGE._replace(**changed))
    assert refusal is not None
    assert refusal.reason == reason
