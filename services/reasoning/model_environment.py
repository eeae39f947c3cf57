"""What the environment says of models: keys, addresses, and what to use where nothing is set.

Values of keys are handed on and never shown.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from meshkit.config import ConfigError
from services.reasoning.model_settings import ModelSettings, ProviderName
from services.reasoning.model_variables import PROVIDER_VARIABLES


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
    names: Mapping[ProviderName, str] = {"anthropic": anthropic_model, "openai": openai_model}
    for provider, usual in names.items():
        variables = PROVIDER_VARIABLES[provider]
        # An address alone is enough where it is not the provider's own: vLLM and Ollama take
        # any key. Who speaks Anthropic's protocol elsewhere wants one.
        by = [variables.key] if provider == "anthropic" else [variables.address, variables.key]
        present = next((each for each in by if environ.get(each)), None)
        if present is None:
            continue
        name = environ.get(variables.model) or usual
        found[name] = ModelSettings(
            provider=provider, description=f"There because {present} is set."
        )
    return found


def access(settings: ModelSettings, environ: Mapping[str, str], *, where: str) -> Access:
    """Where the model of these settings is served.

    `where`: the setting's path. Raises ConfigError for an address that is none.
    """
    variables = PROVIDER_VARIABLES[settings.provider]
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
    return settings.key_variable or PROVIDER_VARIABLES[settings.provider].key


def needs_key(settings: ModelSettings, found: Access) -> bool:
    """Whether nothing is answered without a key."""
    own = urlsplit(PROVIDER_VARIABLES[settings.provider].own_address).hostname
    return bool(settings.key_variable) or found.host == own
