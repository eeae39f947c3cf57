"""Keys of model providers in the environment, and what they would be good for."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

# What each provider's key would give by default; the provider's own variable names another.
_ANTHROPIC_MODEL: Final = "claude-sonnet-4-5"
_OPENAI_MODEL: Final = "gpt-5-mini"


@dataclass(frozen=True, slots=True)
class FoundKey:
    """A provider that the environment gives access to."""

    provider: str
    # The variable that says so. Its value is never shown.
    variable: str
    model: str

    def sentence(self) -> str:
        """What the user should know about it."""
        return (
            f"{self.variable} is set, so {self.model} ({self.provider}) would be used; "
            "this version does not call it yet and answers with the offline model."
        )

    def document(self) -> dict[str, Any]:
        """The same as JSON."""
        return {
            "provider": self.provider,
            "variable": self.variable,
            "model": self.model,
            "called": False,
        }


def find(environ: Mapping[str, str]) -> FoundKey | None:
    """The first provider with a key or an address: Anthropic, then OpenAI and its like."""
    if environ.get("ANTHROPIC_API_KEY"):
        model = environ.get("ANTHROPIC_MODEL") or _ANTHROPIC_MODEL
        return FoundKey("anthropic", "ANTHROPIC_API_KEY", model)
    base = environ.get("OPENAI_BASE_URL", "")
    if base:
        host = urlsplit(base).hostname or "the given address"
        model = environ.get("OPENAI_MODEL") or f"the model served at {host}"
        return FoundKey("openai", "OPENAI_BASE_URL", model)
    if environ.get("OPENAI_API_KEY"):
        return FoundKey("openai", "OPENAI_API_KEY", environ.get("OPENAI_MODEL") or _OPENAI_MODEL)
    return None
