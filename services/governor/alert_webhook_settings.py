"""The settings of webhooks for alerts, and what they come to."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, Field, StringConstraints

from meshkit.config import ConfigError
from meshkit.service import Section
from services.governor.alert_webhook import PREFIX, Secret

_TENANT: Final = r"[a-z0-9][a-z0-9-]{0,62}"
_NAME: Final = re.compile(_TENANT)


def _checked_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be like https://HOST/PATH")
    if parts.username or parts.password:
        raise ValueError("must hold no user and no password: calls are signed instead")
    if not _has_port(parts):
        raise ValueError("must have a port from 1 to 65535, or none")
    return url


def _has_port(parts: SplitResult) -> bool:
    try:
        return parts.port != 0
    except ValueError:
        return False


class WebhookSettings(Section):
    """Somebody who is told of alerts."""

    # Where alerts are posted to.
    url: Annotated[str, AfterValidator(_checked_url)]
    # The environment variable that holds the secret by which they are signed: `whsec_` and
    # the Base64 of 24 to 64 bytes. Either this or `secret_file`.
    secret_env: str = ""
    # The file that holds it.
    secret_file: Path | None = None
    # Of which tenants; empty for all, and for what concerns them all together.
    tenants: frozenset[Annotated[str, StringConstraints(pattern=f"^{_TENANT}$")]] = frozenset()
    # How long one delivery may take, in seconds.
    timeout_seconds: float = Field(default=10.0, gt=0, le=60)


@dataclass(frozen=True, slots=True)
class Webhook:
    """A webhook, ready to be called."""

    name: str
    url: str
    secret: Secret
    tenants: frozenset[str]
    timeout_seconds: float

    def wants(self, tenant: str) -> bool:
        """Whether it is told of what concerns that tenant, "" for all together."""
        return not self.tenants or tenant in self.tenants


def webhooks(settings: Mapping[str, WebhookSettings], environ: Mapping[str, str]) -> list[Webhook]:
    """The webhooks with their secrets.

    Raises:
        ConfigError: A name cannot be used, or a secret is missing or too weak.
    """
    return [
        Webhook(
            name=_checked_name(name),
            url=each.url,
            secret=_secret(f"governor.alert_webhooks.{name}", each, environ),
            tenants=each.tenants,
            timeout_seconds=each.timeout_seconds,
        )
        for name, each in settings.items()
    ]


def _checked_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"governor.alert_webhooks: the name {name[:80]!r} must be 1 to 63 lower-case"
            " letters, digits or hyphens, no hyphen first"
        )
    return name


def _secret(where: str, settings: WebhookSettings, environ: Mapping[str, str]) -> Secret:
    if bool(settings.secret_env) == bool(settings.secret_file):
        raise ConfigError(f"{where}: must have secret_env or secret_file, one of them")
    if settings.secret_file:
        source = str(settings.secret_file)
        try:
            text = settings.secret_file.read_text("utf-8")
        except (OSError, UnicodeError) as error:
            cause = error.strerror if isinstance(error, OSError) else "it is no text"
            raise ConfigError(f"{where}.secret_file: cannot read {source}: {cause}") from error
    else:
        source = settings.secret_env
        if source.startswith(PREFIX):
            # What is said next would repeat it, in the log as well.
            raise ConfigError(f"{where}.secret_env: must name a variable, not be the secret itself")
        text = environ.get(source, "")
        if not text:
            raise ConfigError(f"{where}.secret_env: the variable {source} is not set")
    try:
        return Secret.parse(text)
    except ValueError as error:
        raise ConfigError(f"{where}: the secret in {source} {error}") from error
