"""How the gateway tells callers why it refuses them: as errors of the mesh, in their own shape."""

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from google.protobuf.json_format import MessageToDict

from meshkit.constants import CALLER_KEY, ROLE_KEY, STATUS_DETAILS_KEY, TENANT_KEY
from meshkit.errors import (
    DependencyUnavailable,
    Forbidden,
    MeshError,
    Unauthenticated,
    to_status,
)
from tier.policy import ROLES, Policy, roles_from
from tier.policy_rbac import TAKES_KEY

# The rule by which the filter `grants` refuses.
UNGRANTED: Final = "ungranted"
# A header of the gateway's own: the content type that the client sent.
SHAPE_KEY: Final = "agentmesh-shape"

_TOKENS: Final = "envoy.filters.http.jwt_authn"
_RBAC: Final = "envoy.filters.http.rbac"
_CEL: Final = "type.googleapis.com/envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter"
_WEB: Final = "application/grpc-web"
_GRPC: Final = "application/grpc"
# What a message in a header need not encode.
_PLAIN: Final = " `'(),:;=.?/_-"

# What is wrong with a token, by Envoy's word for it: in a word, and for people. With several
# issuers each says what it has against a token, and most that it is not theirs.
_TOKEN_PROBLEMS: Final[Mapping[str, tuple[str, str]]] = {
    "Jwt is expired": ("expired", "The token has expired: get another."),
    "Jwt not yet valid": ("early", "The token is not valid yet: is a clock wrong?"),
    "Audiences in Jwt are not allowed": (
        "audience",
        "The token is meant for somebody else: its claim `aud` does not name this mesh.",
    ),
    "Jwt verification fails": (
        "signature",
        "The token's signature is wrong, or it has no claim `exp`: get another from an issuer"
        " that this mesh knows.",
    ),
    "Jwks doesn't have key to match kid or alg from Jwt": (
        "signature",
        "The token is signed with a key that this mesh does not know: get another from an"
        " issuer that it knows.",
    ),
    "Jwt issuer is not configured": (
        "issuer",
        "The token is of an issuer that this mesh does not know: see its claim `iss`.",
    ),
}


@dataclass(frozen=True, slots=True)
class _Refusal:
    """An answer of the gateway's own, and what is said in its place."""

    # Filters as of an access log, all of which it passes.
    when: tuple[Any, ...]
    # Of HTTP, for those who asked in JSON.
    status: int
    error: MeshError


def failed_key(issuer: int) -> str:
    """Under what the filter of tokens notes what the issuer of that number has against one."""
    return f"failed-{issuer}"


def mappers(policy: Policy, issuers: int) -> list[Any]:
    """For `local_reply_config`, where the first that fits an answer counts.

    `issuers` is how many the filter of tokens knows.
    """
    refusals = (*_unauthenticated(issuers), *_unavailable(), *_forbidden(policy))
    return [each for refusal in refusals for each in _in_every_shape(refusal)]


def _unauthenticated(issuers: int) -> Iterator[_Refusal]:
    refused = _details("jwt_authn_access_denied")
    # What begins as a key and goes on as none is not sent to the coordinator.
    for sent in (_header("x-api-key", present_match=True), _begins("authorization", "Bearer amk_")):
        yield _unknown_caller(
            (refused, sent),
            "malformed",
            "The API key is malformed: it is amk_, an id, _ and 43 more characters.",
        )
    yield _unknown_caller(
        (_details("jwt_authn_access_denied{Jwt_is_missing"),),
        "none",
        "The call brings no credentials: send an API key as `x-api-key: KEY`, or a token as"
        " `authorization: Bearer TOKEN`.",
    )
    for said, (credential, message) in _TOKEN_PROBLEMS.items():
        noted = [
            _noted(_TOKENS, failed_key(each), "message", exact=said) for each in range(issuers)
        ]
        yield _unknown_caller((refused, _any(noted)), credential, message)
    yield _unknown_caller(
        (refused,),
        "malformed",
        "The token cannot be read: it must be a JWT, in three parts, with a claim `exp`.",
    )
    yield _unknown_caller(
        (_details(f"rbac_access_denied_matched_policy[{UNGRANTED}]"),),
        "claims",
        "The token claims a role or a tenant that its issuer may not give: ask an administrator of"
        " the mesh, whose settings of the issuer are `max_role` and `tenants`.",
    )
    yield _unknown_caller(
        (_details("rbac_access_denied"), _any(list(_not_whole()))),
        "claims",
        "The token does not say who calls: its claims must name a tenant, a subject and a role,"
        f" which is one of {', '.join(each.value for each in ROLES)}.",
    )


def _not_whole() -> Iterator[Any]:
    """That a caller is not known whole, as the filter `callers` of the shipped file wants it."""
    for name, regex in (
        (TENANT_KEY, "[a-z0-9][a-z0-9-]{0,62}"),
        (CALLER_KEY, "(user|key):[A-Za-z0-9._:@/+-]{1,120}"),
        (ROLE_KEY, "user|operator|admin"),
    ):
        yield _header(
            name,
            string_match={"safe_regex": {"regex": regex}},
            invert_match=True,
            treat_missing_header_as_empty=True,
        )


def _unavailable() -> Iterator[_Refusal]:
    yield _Refusal(
        (_details("ext_authz_error"),),
        503,
        DependencyUnavailable(
            "API keys cannot be checked now: try again, or call with a token.",
            metadata={"dependency": "coordinator"},
            retry_after_seconds=1.0,
        ),
    )


def _forbidden(policy: Policy) -> Iterator[_Refusal]:
    refused = _details("rbac_access_denied")
    for role, paths in policy.roles.items():
        if paths:
            wanted = " or ".join(each.value for each in roles_from(role))
            yield _Refusal(
                (refused, _noted(_RBAC, TAKES_KEY, exact=f"role {role.value}")),
                403,
                Forbidden(
                    f"The call takes the role {wanted}: ask an administrator of the mesh.",
                    metadata={"role": role.value},
                ),
            )
    for scope in policy.scopes:
        yield _Refusal(
            (refused, _noted(_RBAC, TAKES_KEY, exact=f"scope {scope}")),
            403,
            Forbidden(
                f"The call takes an API key with the scope {scope}, or one without scopes.",
                metadata={"scope": scope},
            ),
        )
    yield _Refusal((refused,), 403, Forbidden("Nobody may make this call from outside."))


def _unknown_caller(when: tuple[Any, ...], credential: str, message: str) -> _Refusal:
    return _Refusal(when, 401, Unauthenticated(message, metadata={"credential": credential}))


def _in_every_shape(refusal: _Refusal) -> Iterator[Any]:
    """gRPC-web first: its name begins with that of gRPC."""
    status = to_status(refusal.error)
    details = base64.b64encode(status.SerializeToString()).decode().rstrip("=")
    yield {
        "filter": _all(*refusal.when, _begins(SHAPE_KEY, _WEB)),
        "status_code": 200,
        # An answer without messages has in its headers what would be trailers.
        "headers_to_add": [
            _set("grpc-status", str(status.code)),
            # Envoy takes what stands between two % for a command.
            _set("grpc-message", quote(status.message, safe=_PLAIN).replace("%", "%%")),
            _set(STATUS_DETAILS_KEY, details),
        ],
        "body": {"inline_string": ""},
    }
    yield {
        "filter": _all(*refusal.when, _begins(SHAPE_KEY, _GRPC)),
        # From which Envoy makes the status of gRPC.
        "status_code": refusal.status,
        "headers_to_add": [_set(STATUS_DETAILS_KEY, details)],
        "body": {"inline_string": status.message},
    }
    yield {
        "filter": _all(*refusal.when),
        "status_code": refusal.status,
        "headers_to_add": [_set("www-authenticate", "Bearer")] if refusal.status == 401 else [],
        "body_format_override": {
            "json_format": MessageToDict(status),
            "content_type": "application/json",
        },
    }


def _set(key: str, value: str) -> Any:
    return {"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}


def _all(*filters: Any) -> Any:
    return filters[0] if len(filters) == 1 else {"and_filter": {"filters": list(filters)}}


def _any(filters: Sequence[Any]) -> Any:
    return filters[0] if len(filters) == 1 else {"or_filter": {"filters": list(filters)}}


def _details(begin: str) -> Any:
    """Which filter refused, by Envoy's word for it."""
    expression = {"@type": _CEL, "expression": f"response.code_details.startsWith('{begin}')"}
    return {"extension_filter": {"name": "details", "typed_config": expression}}


def _noted(by: str, *path: str, exact: str) -> Any:
    """What a filter noted."""
    matcher = {
        "filter": by,
        "path": [{"key": key} for key in path],
        "value": {"string_match": {"exact": exact}},
    }
    return {"metadata_filter": {"matcher": matcher, "match_if_key_not_found": False}}


def _begins(name: str, prefix: str) -> Any:
    return _header(name, string_match={"prefix": prefix})


def _header(name: str, **match: Any) -> Any:
    return {"header_filter": {"header": {"name": name, **match}}}
