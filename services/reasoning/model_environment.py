"""What the environment says of models: keys, addresses, and what to use where nothing is set.

Values of keys are handed on and never shown.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from meshkit.config import ConfigError
from services.reasoning.model_settings import ModelSettings, ProviderName


@dataclass(frozen=True, slots=True)
class _Variables:
    key: str
    address: str
    model: str
    # Where its own API is, which wants a key.
    own_address: str


_VARIABLES: Final[Mapping[ProviderName, _Variables]] = {
    "anthropic": _Variables(
        "ANTHROPIC_API_KEY",
        "ANTHROPIC_BASE_URL",
        "ANTHROPIC_MODEL",
        "https://api.anthropic.com",
    ),
    "openai": _Variables(
        "OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_MODEL", "https://api.openai.com/v1"
    ),
}
# All that is looked at, unless a setting names another key.
MODEL_VARIABLES: Final = tuple(
    name for each in _VARIABLES.values() for name in (each.key, each.address, each.model)
)


@dataclass(frozen=True, slots=True)
class Access:
    """Where a model is served, and with which key."""

    address: str
    # Empty for servers that want none.
    key: str

    def __repr__(self) -> str:
        """Without the key, and what of the address may be one."""
        return f"Access({self.host})"

    @property
    def host(self) -> str:
        """For people."""
        return urlsplit(self.address).hostname or self.address


def models_of(
    environ: Mapping[str, str], *, openai_model: str, anthropic_model: str
) -> dict[str, ModelSettings]:
    """The models that the environment gives access to, by name, the preferred one first."""
    found: dict[str, ModelSettings] = {}
    usual: Mapping[ProviderName, str] = {"anthropic": anthropic_model, "openai": openai_model}
    for provider, variables in _VARIABLES.items():
        # An address alone is enough where it is not the provider's own: vLLM and Ollama take
        # any key. Who speaks Anthropic's protocol elsewhere wants one.
        by = [variables.key] if provider == "anthropic" else [variables.address, variables.key]
        present = next((each for each in by if environ.get(each)), None)
        if present is None:
            continue
        name = environ.get(variables.model) or usual[provider]
        found[name] = ModelSettings(
            provider=provider, description=f"There because {present} is set."
        )
    return found


def access(settings: ModelSettings, environ: Mapping[str, str], *, where: str) -> Access:
    """Where the model of these settings is served.

    `where`: the setting's path. Raises ConfigError for an address that is none.
    """
    variables = _VARIABLES[settings.provider]
    address = settings.address or environ.get(variables.address) or variables.own_address
    try:
        parts = urlsplit(address)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        told = f"{where}.address" if settings.address else f"environment: {variables.address}"
        raise ConfigError(
            f"{told}: expected a base URL such as {variables.own_address} or"
            " http://127.0.0.1:8000/v1"
        )
    return Access(address, environ.get(key_variable(settings), ""))


def key_variable(settings: ModelSettings) -> str:
    """The variable that holds the key."""
    return settings.key_variable or _VARIABLES[settings.provider].key


def needs_key(settings: ModelSettings, found: Access) -> bool:
    """Whether nothing is answered without a key."""
    own = urlsplit(_VARIABLES[settings.provider].own_address).hostname
    return bool(settings.key_variable) or found.host == own
