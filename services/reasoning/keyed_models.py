"""Models for which the environment has a key or an address, though nobody calls them yet."""

from collections.abc import Mapping
from typing import Final

from services.reasoning.model import Kind, ModelSpec

_CONTEXT_TOKENS: Final = 200_000
# What the presence of a variable tells; its value is never looked at.
_OPENAI: Final = ("OPENAI_API_KEY", "OPENAI_BASE_URL")
_ANTHROPIC: Final = ("ANTHROPIC_API_KEY",)


def keyed_models(
    environ: Mapping[str, str], *, openai_model: str, anthropic_model: str
) -> list[ModelSpec]:
    """The models that the environment's keys would open, listed and not callable."""
    found: list[ModelSpec] = []
    for provider, brand, variables, name in (
        ("openai", "OpenAI", _OPENAI, openai_model),
        ("anthropic", "Anthropic", _ANTHROPIC, anthropic_model),
    ):
        present = next((each for each in variables if environ.get(each)), None)
        if present is not None:
            found.append(
                ModelSpec(
                    name=name,
                    provider=provider,
                    kind=Kind.GENERATOR,
                    context_tokens=_CONTEXT_TOKENS,
                    description=f"{present} is set; this version does not call {brand} yet.",
                    callable=False,
                )
            )
    return found
