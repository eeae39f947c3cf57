"""On whose behalf a call is made, and by whom."""

import re
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from meshkit.constants import BATCH_TENANT, CALLER_KEY, TENANT_KEY
from meshkit.error_reasons import Forbidden, InvalidField, Unauthenticated

TENANT_PATTERN: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_CALLER_PATTERN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@/+-]{0,127}")


@dataclass(frozen=True, slots=True)
class Identity:
    """A tenant, and the service or user that calls on its behalf."""

    tenant: str
    # `service:<name>` for services; the mesh sets it for everybody else.
    caller: str


# Who makes a batch call: each of its items has an identity of its own. Nothing
# belongs to this tenant.
BATCH: Final = Identity(BATCH_TENANT, "service:batch")

_current: ContextVar[Identity] = ContextVar("meshkit_identity")


def current() -> Identity:
    """The identity of the call that is being served; Unauthenticated outside of one."""
    identity = _current.get(None)
    if identity is None:
        raise Unauthenticated("The call has no identity.")
    return identity


def current_or_none() -> Identity | None:
    """The identity of the call that is being served, if there is one."""
    return _current.get(None)


def adopt(identity: Identity) -> None:
    """Sets the identity for the rest of this asyncio task."""
    _current.set(identity)


@contextmanager
def use(identity: Identity) -> Generator[Identity]:
    """Acts under this identity inside the block."""
    token = _current.set(identity)
    try:
        yield identity
    finally:
        _current.reset(token)


@lru_cache(maxsize=4096)
def make(tenant: str, caller: str) -> Identity:
    """A checked identity; InvalidField where an identifier is malformed."""
    if not TENANT_PATTERN.fullmatch(tenant):
        raise InvalidField(
            TENANT_KEY, "must be 1 to 63 lower-case letters, digits or hyphens, no hyphen first"
        )
    if not _CALLER_PATTERN.fullmatch(caller):
        raise InvalidField(CALLER_KEY, "must be 1 to 128 letters, digits or any of . _ : @ / + -")
    return Identity(tenant, caller)


def to_metadata(identity: Identity) -> tuple[tuple[str, str], tuple[str, str]]:
    """The identity as gRPC metadata."""
    return ((TENANT_KEY, identity.tenant), (CALLER_KEY, identity.caller))


def from_metadata(
    metadata: Iterable[tuple[str, str | bytes]], *, default_tenant: str | None = None
) -> Identity:
    """The identity in gRPC metadata.

    Without a tenant: `default_tenant`, or Unauthenticated where that is None.
    """
    tenant = caller = ""
    for key, value in metadata:
        if key == TENANT_KEY:
            tenant = _text(value)
        elif key == CALLER_KEY:
            caller = _text(value)
    return _completed(tenant, caller, default_tenant)


def to_headers(identity: Identity) -> dict[str, str]:
    """The identity as NATS message headers."""
    return {TENANT_KEY: identity.tenant, CALLER_KEY: identity.caller}


def from_headers(headers: Mapping[str, str], *, default_tenant: str | None = None) -> Identity:
    """The identity in NATS message headers, by the rules of `from_metadata`."""
    return _completed(headers.get(TENANT_KEY, ""), headers.get(CALLER_KEY, ""), default_tenant)


def require_tenant(name: str) -> None:
    """Forbidden unless the resource `name` belongs to the current identity's tenant."""
    identity = current()
    if not name.startswith(f"tenants/{identity.tenant}/") and name != f"tenants/{identity.tenant}":
        raise Forbidden(
            f"{identity.caller} acts for tenant {identity.tenant}, which does not own {name!r}."
        )


def _completed(tenant: str, caller: str, default_tenant: str | None) -> Identity:
    if not tenant:
        if default_tenant is None:
            raise Unauthenticated(f"The call names no tenant in {TENANT_KEY}.")
        tenant = default_tenant
    return make(tenant, caller or "anonymous")


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("utf-8", "replace")
