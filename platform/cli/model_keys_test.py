"""Keys of model providers in the environment."""

import pytest

from agentmesh.common.v1.tier_pb2 import MODEL_TIER_FAST, MODEL_TIER_UNSPECIFIED
from agentmesh.reasoning.v1.model_pb2 import (
    MODEL_STATE_NOT_CONFIGURED,
    MODEL_STATE_READY,
    Model,
)
from cli import model_keys

_OFFLINE = Model(name="offline", provider="offline", tier=MODEL_TIER_FAST, state=MODEL_STATE_READY)


def _gpt(**fields: int) -> Model:
    given = {
        "tier": MODEL_TIER_FAST,
        "state": MODEL_STATE_READY,
        "input_price_micros_per_million": 250_000,
        "output_price_micros_per_million": 2_000_000,
        **fields,
    }
    return Model(name="gpt-5-mini", provider="openai", **given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("environ", "provider", "variable"),
    [
        ({"OPENAI_API_KEY": "secret"}, "openai", "OPENAI_API_KEY"),
        (
            {"OPENAI_BASE_URL": "http://user:secret@models.local/v1", "OPENAI_API_KEY": "secret"},
            "openai",
            "OPENAI_BASE_URL",
        ),
        (
            {"ANTHROPIC_API_KEY": "secret", "OPENAI_API_KEY": "secret"},
            "anthropic",
            "ANTHROPIC_API_KEY",
        ),
    ],
)
def test_a_key_is_told_of_and_never_shown(
    environ: dict[str, str], provider: str, variable: str
) -> None:
    """The variable is named; its value is not."""
    found = model_keys.find(environ)
    assert found is not None
    assert found.sentence() == (
        f"{variable} is set: a mesh that is started here answers with a model of {provider},"
        " whose calls cost what the price book says."
    )


@pytest.mark.parametrize("environ", [{}, {"OPENAI_API_KEY": ""}])
def test_no_key(environ: dict[str, str]) -> None:
    """Without a key there is nothing to say."""
    assert model_keys.find(environ) is None


@pytest.mark.parametrize(
    ("models", "notice"),
    [
        (
            [_gpt(), _OFFLINE],
            "OPENAI_API_KEY is set: gpt-5-mini (openai) answers; each call costs money: $0.25 for"
            " a million tokens in, $2.00 out.",
        ),
        (
            [_gpt(input_price_micros_per_million=0, output_price_micros_per_million=0), _OFFLINE],
            "OPENAI_API_KEY is set: gpt-5-mini (openai) answers; by the price book it costs"
            " nothing.",
        ),
        *(
            (
                models,
                "OPENAI_API_KEY is set here, and this mesh does not use it: it was started"
                " without, or its settings name other models.",
            )
            for models in (
                [_OFFLINE],
                [_OFFLINE, _gpt(tier=MODEL_TIER_UNSPECIFIED)],
                [_gpt(state=MODEL_STATE_NOT_CONFIGURED), _OFFLINE],
            )
        ),
    ],
)
def test_a_mesh_says_what_it_makes_of_a_key(models: list[Model], notice: str) -> None:
    """Which model answers and that it costs money, or that it does not."""
    found = model_keys.FoundKey("openai", "OPENAI_API_KEY")
    assert found.notice(models) == notice
    called = "does not use" not in notice
    assert found.document(models) == {
        "provider": "openai",
        "variable": "OPENAI_API_KEY",
        "model": "gpt-5-mini" if called else None,
        "called": called,
    }
