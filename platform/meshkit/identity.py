"""On whose behalf a call is made, and by whom."""

import re
from collections.abc import Iterable, Mapping
from contextvars import ContextVar, Token
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Final

from meshkit.constants import (
    BATCH_TENANT,
    CALLER_KEY,
    ROLE_KEY,
    SERVICE_CALLER,
    TENANT_KEY,
)
from meshkit.error_reasons import Forbidden, InvalidField, Unauthenticated

TENANT_PATTERN: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_CALLER_PATTERN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@/+-]{0,127}")


class Role(StrEnum):
    """What a caller may do, as mesh/policy.yaml spells it out."""

    # Who was given nothing more: services among themselves, and whoever came past the gateway.
    SERVICE = "service"
    # The work of one tenant.
    USER = "user"
    # Also what concerns all tenants: budgets, queues, the read model, the tenant's keys.
    OPERATOR = "operator"
    # Everything.
    ADMIN = "admin"

    @property
    def operates(self) -> bool:
        """Whether it reaches to what concerns all tenants."""
        return self in (Role.OPERATOR, Role.ADMIN)


@dataclass(frozen=True, slots=True)
class Identity:
    """A tenant, and the service or user that calls on its behalf."""

    tenant: str
    # `service:<name>` for services; the mesh sets it for everybody else.
    caller: str
    # Holds for the one call. It goes to no other service and into no queue.
    role: Role = Role.SERVICE


_ROLES: Final = tuple(each.value for each in Role)

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


class use:  # noqa: N801 - it reads as a statement; a generator would take three times as long
    """Acts under this identity inside the block."""

    __slots__ = ("_identity", "_token")

    def __init__(self, identity: Identity) -> None:
        self._identity: Final = identity
        self._token: Token[Identity]

    def __enter__(self) -> Identity:
        self._token = _current.set(self._identity)
        return self._identity

    def __exit__(self, *_: object) -> None:
        _current.reset(self._token)


@lru_cache(maxsize=4096)
def make(tenant: str, caller: str, role: str = Role.SERVICE) -> Identity:
    """A checked identity; InvalidField where an identifier is malformed or a role unknown.

    A service has no other role, whatever is said of it.
    """
    if not TENANT_PATTERN.fullmatch(tenant):
        raise InvalidField(
            TENANT_KEY, "must be 1 to 63 lower-case letters, digits or hyphens, no hyphen first"
        )
    if not _CALLER_PATTERN.fullmatch(caller):
        raise InvalidField(CALLER_KEY, "must be 1 to 128 letters, digits or any of . _ : @ / + -")
    if role not in _ROLES:
        raise InvalidField(ROLE_KEY, f"must be one of {', '.join(_ROLES)}")
    return Identity(
        tenant, caller, Role.SERVICE if caller.startswith(SERVICE_CALLER) else Role(role)
    )


def to_metadata(identity: Identity) -> tuple[tuple[str, str], tuple[str, str]]:
    """The identity as gRPC metadata, without its role: that is the gateway's to say."""
    return ((TENANT_KEY, identity.tenant), (CALLER_KEY, identity.caller))


def from_metadata(
    metadata: Iterable[tuple[str, str | bytes]], *, default_tenant: str | None = None
) -> Identity:
    """The identity in gRPC metadata.

    Without a tenant: `default_tenant`, or Unauthenticated where that is None.
    """
    tenant = caller = role = ""
    for key, value in metadata:
        if key == TENANT_KEY:
            tenant = _text(value)
        elif key == CALLER_KEY:
            caller = _text(value)
        elif key == ROLE_KEY:
            role = _text(value)
    return _completed(tenant, caller, default_tenant, role)


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


def _completed(tenant: str, caller: str, default_tenant: str | None, role: str = "") -> Identity:
    if not tenant:
        if default_tenant is None:
            raise Unauthenticated(f"The call names no tenant in {TENANT_KEY}.")
        tenant = default_tenant
    return make(tenant, caller or "anonymous", role or Role.SERVICE)


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("utf-8", "replace")
