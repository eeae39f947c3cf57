"""A key in the environment is noticed and never shown."""

import pytest

from services.reasoning.keyed_models import keyed_models


@pytest.mark.parametrize(
    ("environ", "found"),
    [
        ({}, []),
        ({"OPENAI_API_KEY": ""}, []),
        (
            {"OPENAI_API_KEY": "sk-1", "ANTHROPIC_API_KEY": "sk-2"},
            [
                ("gpt", "openai", "OPENAI_API_KEY is set; this version does not call OpenAI yet."),
                (
                    "claude",
                    "anthropic",
                    "ANTHROPIC_API_KEY is set; this version does not call Anthropic yet.",
                ),
            ],
        ),
        (
            {"OPENAI_BASE_URL": "http://user:secret@127.0.0.1"},
            [("gpt", "openai", "OPENAI_BASE_URL is set; this version does not call OpenAI yet.")],
        ),
    ],
)
def test_models_with_a_key_are_listed_and_not_callable(
    environ: dict[str, str], found: list[tuple[str, str, str]]
) -> None:
    """Which model it would be, and that it is not called yet."""
    models = keyed_models(environ, openai_model="gpt", anthropic_model="claude")
    assert [(each.name, each.provider, each.description) for each in models] == found
    assert not any(each.callable for each in models)
