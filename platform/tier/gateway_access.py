"""What a gateway goes by that asks callers who they are: the files that its filters follow."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from meshkit.clock import Clock
from meshkit.constants import EXPIRES_KEY, ROLE_KEY, TENANT_KEY
from meshkit.identity import Role
from tier.access_tokens import AUDIENCE, ISSUER
from tier.events import Phase
from tier.gateway_refusals import UNGRANTED, failed_key
from tier.policy import Policy, roles_up_to
from tier.policy_rbac import TYPE as RBAC_TYPE
from tier.policy_rbac import gateway_needs, gateway_rbac
from tier.ports import HOST

# The folder of a mesh with what its gateway's filters follow: this, and what the governor writes.
FOLLOWED: Final = "gateway"
_RESOURCE: Final = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig"
_TOKENS: Final = "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication"
# As in the shipped file, which asks the coordinator about what looks so.
_KEY: Final = "amk_[a-z0-9]{8,40}_[A-Za-z0-9_-]{43}"
# Clocks differ.
_SKEW_SECONDS: Final = 10
_CACHED_TOKENS: Final = 1000
# A header of the gateway's own: who issued the token.
_ISSUER_KEY: Final = "agentmesh-issuer"
ANY_TENANT: Final = "*"
# For changes of issuers' keys.
_LOOK_EVERY_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class Issuer:
    """Somebody whose tokens are good."""

    # As the tokens' `iss` says.
    name: str
    # One of them is in the tokens' `aud`.
    audiences: tuple[str, ...]
    # The public keys, as a JSON Web Key Set.
    jwks: Path
    # The claims that say who calls; `.` goes into nested ones.
    subject_claim: str = "sub"
    tenant_claim: str = "tenant"
    role_claim: str = "role"
    # The highest role that it may give, and to whose callers: no tenant's where none is named, and
    # every tenant's by ANY_TENANT.
    max_role: Role = Role.USER
    tenants: tuple[str, ...] = ()


def own_issuer(jwks: Path) -> Issuer:
    """The mesh itself, which may give everything."""
    return Issuer(ISSUER, (AUDIENCE,), jwks, max_role=Role.ADMIN, tenants=(ANY_TENANT,))


@dataclass(frozen=True, slots=True)
class Guard:
    """How callers show who they are, and where they are listened to beside the plain port."""

    tls_port: int
    # For Envoy's SDS, with a secret named `certificate`.
    certificate: Path
    policy: Policy
    issuers: tuple[Issuer, ...]
    # The address at which TLS is taken.
    listen: str = HOST
    # Web sites whose pages may call, such as `https://console.example.com`, beside those of
    # this machine.
    origins: tuple[str, ...] = ()


def followed(guard: Guard) -> Mapping[str, str]:
    """What the files hold that the gateway's filters follow, by name.

    Raises OSError for keys that cannot be read, and ValueError for those that are no JSON.
    """
    return {
        "tokens.json": resource("tokens", _tokens(guard.issuers)),
        "grants.json": resource("grants", _grants(guard.issuers)),
        "takes.json": resource("takes", gateway_needs(guard.policy)),
        "roles.json": resource("roles", gateway_rbac(guard.policy)),
    }


def resource(name: str, typed_config: Any) -> str:
    """A file that a filter of that name follows."""
    one = {"@type": _RESOURCE, "name": name, "typed_config": typed_config}
    return json.dumps({"resources": [one]})


def write(folder: Path, files: Mapping[str, str]) -> None:
    """Writes what has changed. Envoy follows moves alone, so it never reads half of a file."""
    for name, content in files.items():
        file = folder / name
        if not file.exists() or file.read_text("utf-8") != content:
            draft = file.with_suffix(".new")
            draft.write_text(content, "utf-8")
            draft.replace(file)


async def keep(
    folder: Path, guard: Guard, *, clock: Clock, report: Callable[[str, Phase, str], None]
) -> None:
    """Has the gateway go by issuers' keys as their files change, for ever.

    What cannot be read is said once, and the keys of before hold on.
    """
    seen = _versions(guard)
    while True:
        await clock.sleep(_LOOK_EVERY_SECONDS)
        found = _versions(guard)
        if found == seen:
            continue
        seen = found
        try:
            write(folder, followed(guard))
        except (OSError, ValueError) as error:
            report("gateway", Phase.FAILED, f"Failed to read the keys of an issuer: {error}")


def _versions(guard: Guard) -> list[object]:
    """Something that changes with the issuers' files."""
    return [_version(each.jwks) for each in guard.issuers]


def _version(file: Path) -> object:
    try:
        stat = file.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_mtime_ns, stat.st_size


def _tokens(issuers: Sequence[Issuer]) -> Any:
    names = [{"provider_name": each.name} for each in issuers]
    needed = names[0] if len(names) == 1 else {"requires_any": {"requirements": names}}
    key = {"name": "x-api-key", "string_match": {"safe_regex": {"regex": _KEY}}}
    bearer = {"name": "authorization", "string_match": {"safe_regex": {"regex": f"Bearer {_KEY}"}}}
    no_key = {"name": "x-api-key", "present_match": False}
    return {
        "@type": _TOKENS,
        "providers": {each.name: _provider(each, number) for number, each in enumerate(issuers)},
        "rules": [
            # Keys are somebody else's to check.
            {"match": {"prefix": "/", "headers": [key]}},
            {"match": {"prefix": "/", "headers": [bearer, no_key]}},
            {"match": {"prefix": "/"}, "requires": needed},
        ],
    }


def _grants(issuers: Sequence[Issuer]) -> Any:
    """Refuses whoever claims, by a token, what its issuer may not give."""
    by_key = {"header": {"name": _ISSUER_KEY, "present_match": True, "invert_match": True}}
    granted = [by_key, *(_granted(each) for each in issuers if each.tenants)]
    return {
        "@type": RBAC_TYPE,
        "rules": {
            "action": "DENY",
            "policies": {
                UNGRANTED: {
                    "permissions": [{"any": True}],
                    "principals": [{"not_id": {"or_ids": {"ids": granted}}}],
                }
            },
        },
    }


def _granted(issuer: Issuer) -> Any:
    said = [
        _says(_ISSUER_KEY, [issuer.name]),
        _says(ROLE_KEY, [each.value for each in roles_up_to(issuer.max_role)]),
    ]
    if ANY_TENANT not in issuer.tenants:
        said.append(_says(TENANT_KEY, issuer.tenants))
    return {"and_ids": {"ids": said}}


def _says(header: str, values: Sequence[str]) -> Any:
    ids = [{"header": {"name": header, "string_match": {"exact": each}}} for each in values]
    return {"or_ids": {"ids": ids}}


def _provider(issuer: Issuer, number: int) -> Any:
    keys = json.loads(issuer.jwks.read_text("utf-8"))
    return {
        "issuer": issuer.name,
        "audiences": list(issuer.audiences),
        "local_jwks": {"inline_string": json.dumps(keys)},
        # Nowhere else: addresses end up in logs.
        "from_headers": [{"name": "authorization", "value_prefix": "Bearer "}],
        "require_expiration": True,
        "clock_skew_seconds": _SKEW_SECONDS,
        "claim_to_headers": [
            {"header_name": "agentmesh-subject", "claim_name": issuer.subject_claim},
            {"header_name": "x-agentmesh-tenant", "claim_name": issuer.tenant_claim},
            {"header_name": "x-agentmesh-role", "claim_name": issuer.role_claim},
            {"header_name": EXPIRES_KEY, "claim_name": "exp"},
            {"header_name": _ISSUER_KEY, "claim_name": "iss"},
        ],
        "failed_status_in_metadata": failed_key(number),
        # To check a signature takes longer than the rest of a call. A key that is taken out makes
        # another filter, with nothing kept.
        "jwt_cache_config": {"jwt_cache_size": _CACHED_TOKENS},
    }
