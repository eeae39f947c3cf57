"""Who deals with API keys, and what they have to give: nobody gives more than that."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Protocol

from agentmesh.access.v1 import access_service_pb2 as pb
from agentmesh.access.v1.access_service_pb2 import ApiKey
from agentmesh.access.v1.stored_api_key_pb2 import StoredApiKey
from meshkit import identity
from meshkit.constants import KEY_CALLER
from meshkit.errors import Forbidden
from meshkit.identity import Role

# A service of the mesh has none of them.
_ROLES: Final = {
    Role.USER: pb.ROLE_USER,
    Role.OPERATOR: pb.ROLE_OPERATOR,
    Role.ADMIN: pb.ROLE_ADMIN,
}
_NAMES: Final = {number: role for role, number in _ROLES.items()}


class Keys(Protocol):
    """Knows the keys of all tenants."""

    async def find(self, key_id: str) -> StoredApiKey | None: ...

    async def catch_up(self) -> None:
        """Returns when all that is stored now is known."""
        ...


@dataclass(frozen=True, slots=True)
class Maker:
    """Who calls AccessService."""

    tenant: str
    caller: str
    role: Role
    # Those of the key that it called with; None where its role alone limits it.
    scopes: frozenset[str] | None
    # When the key ends by itself that it called with; None for one that does not, and for tokens.
    ends: datetime | None = None

    def require_tenant(self, tenant: str) -> None:
        """Forbidden unless the tenant's keys are this caller's to know."""
        if self.role not in _ROLES:
            raise Forbidden(
                f"{self.caller} has no role, and API keys take one. Call through the gateway."
            )
        if tenant != self.tenant and self.role is not Role.ADMIN:
            raise Forbidden(
                f"{self.caller} acts for tenant {self.tenant}, and the keys of other tenants"
                f" take the role {Role.ADMIN}."
            )

    def require_role(self, role: pb.Role, to_do: str) -> None:
        """Forbidden unless this caller's role is as high."""
        if _ROLES.get(self.role, pb.ROLE_UNSPECIFIED) < role:
            raise Forbidden(
                f"{self.caller} has the role {self.role}, and to {to_do} takes {role_name(role)}."
            )

    def require_powers(self, key: ApiKey) -> None:
        """Forbidden unless this caller has all that the key would have."""
        self.require_role(key.role, f"make a key with the role {role_name(key.role)}")
        if self.ends is not None and (
            not key.HasField("expire_time") or key.expire_time.ToDatetime(tzinfo=UTC) > self.ends
        ):
            raise Forbidden(
                f"{self.caller} ends at {self.ends:%Y-%m-%d %H:%M:%S} UTC, and cannot make a key"
                " that ends later, or never."
            )
        if self.scopes is None:
            return
        beyond = [each for each in key.scopes if each not in self.scopes]
        if beyond or not key.scopes:
            wanted = f"for {', '.join(beyond)}" if beyond else "without scopes"
            raise Forbidden(
                f"{self.caller} is limited to {', '.join(sorted(self.scopes))}, and cannot make a"
                f" key {wanted}."
            )


class Makers:
    """Tells who is calling."""

    def __init__(self, keys: Keys) -> None:
        self._keys: Final = keys

    async def current(self) -> Maker:
        """Who makes the call that is being served.

        Raises:
            Forbidden: By a key that is gone, or was revoked, since.
            DependencyUnavailable: The keys cannot be looked at now.
        """
        who = identity.current()
        scopes: frozenset[str] | None = None
        ends: datetime | None = None
        if who.caller.startswith(KEY_CALLER):
            # With the seconds until it is refused everywhere, one that was stolen and revoked
            # could still make another.
            await self._keys.catch_up()
            record = await self._keys.find(who.caller.removeprefix(KEY_CALLER))
            if record is None or record.api_key.HasField("revoke_time"):
                raise Forbidden(f"There is no {who.caller} any more.")
            scopes = frozenset(record.api_key.scopes) or None
            if record.api_key.HasField("expire_time"):
                ends = record.api_key.expire_time.ToDatetime(tzinfo=UTC)
        return Maker(who.tenant, who.caller, who.role, scopes, ends)


def role_name(role: pb.Role) -> str:
    """The role as the mesh's policy calls it."""
    return str(_NAMES.get(role, Role.USER))


def role_number(role: Role) -> pb.Role:
    """The role as the contract numbers it; unspecified for what is none of a caller's."""
    return _ROLES.get(role, pb.ROLE_UNSPECIFIED)
