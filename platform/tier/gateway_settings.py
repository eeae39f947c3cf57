"""The settings of the gateway of a mesh on one machine that asks callers who they are."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from meshkit.identity import TENANT_PATTERN
from meshkit.service import Section
from tier.access_files import TENANT

_Tenant = Annotated[str, Field(pattern=rf"^(\*|{TENANT_PATTERN.pattern})$")]


class IssuerSettings(Section):
    """Somebody whose tokens are good, beside the mesh itself."""

    # As the tokens' `iss` says.
    name: str = Field(min_length=1)
    # One of them is in the tokens' `aud`.
    audiences: list[str] = Field(min_length=1)
    # The file with the public keys, as a JSON Web Key Set.
    jwks: Path
    # The claims that say who calls; `.` goes into nested ones.
    subject_claim: str = "sub"
    tenant_claim: str = "tenant"
    role_claim: str = "role"
    # The highest role that its tokens may claim, and the tenants; `*` for all of them.
    max_role: Literal["user", "operator", "admin"] = "user"
    tenants: list[_Tenant] = Field(default=[TENANT], min_length=1)


class GatewaySettings(Section):
    """Whom staging's gateway lets in beside the mesh's own keys and tokens."""

    # Web sites whose pages may call, such as `https://console.example.com`, beside those of this
    # machine.
    origins: list[str] = Field(default_factory=list[str])
    # Whose tokens are good beside those of `agentmesh key token`.
    issuers: list[IssuerSettings] = Field(default_factory=list[IssuerSettings])
    # Names and addresses by which callers reach the gateway's TLS beside this machine's own: they
    # are in its certificate.
    hosts: list[str] = Field(default_factory=list[str])
