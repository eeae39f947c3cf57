"""Keys of model providers in the environment."""

import pytest

from cli import model_keys


@pytest.mark.parametrize(
    ("environ", "sentence"),
    [
        (
            {"OPENAI_API_KEY": "secret"},
            "OPENAI_API_KEY is set, so gpt-5-mini (openai) would be used;"
            " this version does not call it yet and answers with the offline model.",
        ),
        (
            {
                "OPENAI_BASE_URL": "http://user:secret@models.local:8000/v1",
                "OPENAI_API_KEY": "secret",
            },
            "OPENAI_BASE_URL is set, so the model served at models.local (openai) would be used;"
            " this version does not call it yet and answers with the offline model.",
        ),
        (
            {
                "ANTHROPIC_API_KEY": "secret",
                "ANTHROPIC_MODEL": "claude-x",
                "OPENAI_API_KEY": "secret",
            },
            "ANTHROPIC_API_KEY is set, so claude-x (anthropic) would be used;"
            " this version does not call it yet and answers with the offline model.",
        ),
    ],
)
def test_a_key_is_told_of_and_never_shown(environ: dict[str, str], sentence: str) -> None:
    """The variable and the model are named; the secret is not."""
    found = model_keys.find(environ)
    assert found is not None
    assert found.sentence() == sentence
    assert "secret" not in str(found.document())


@pytest.mark.parametrize("environ", [{}, {"OPENAI_API_KEY": ""}])
def test_no_key(environ: dict[str, str]) -> None:
    """Without a key there is nothing to say."""
    assert model_keys.find(environ) is None
