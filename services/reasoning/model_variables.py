"""The variables of the environment that say where models are, and with which keys.

Imports nothing of weight: who starts the processes of a mesh reads it first.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class ProviderVariables:
    """What is read for one provider."""

    key: str
    address: str
    model: str
    # Where its own API is, which wants a key.
    own_address: str


# By the provider's name, the preferred one first.
PROVIDER_VARIABLES: Final[Mapping[str, ProviderVariables]] = {
    "anthropic": ProviderVariables(
        "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", "ANTHROPIC_MODEL", "https://api.anthropic.com"
    ),
    "openai": ProviderVariables(
        "OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_MODEL", "https://api.openai.com/v1"
    ),
}
# All that is looked at, unless a setting names another key.
MODEL_VARIABLES: Final = tuple(
    name for each in PROVIDER_VARIABLES.values() for name in (each.key, each.address, each.model)
)
