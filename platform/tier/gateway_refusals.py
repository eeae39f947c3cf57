"""How the gateway tells callers why it refuses them: as errors of the mesh, in their own shape."""

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from google.protobuf.json_format import MessageToDict
from google.rpc import status_pb2

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

# Under which the filter of tokens notes why it refuses one.
FAILED_KEY: Final = "failed"
# Under which the coordinator says what is wrong with an API key.
PROBLEM_KEY: Final = "problem"
# A header of the gateway's own: the content type that the client sent.
SHAPE_KEY: Final = "agentmesh-shape"

_TOKENS: Final = "envoy.filters.http.jwt_authn"
_KEYS: Final = "envoy.filters.http.ext_authz"
_RBAC: Final = "envoy.filters.http.rbac"
_CEL: Final = "type.googleapis.com/envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter"
_WEB: Final = "application/grpc-web"
_GRPC: Final = "application/grpc"

# What is wrong with a token, by Envoy's word for it: in a word, and for people.
_TOKEN_PROBLEMS: Final[Mapping[str, tuple[str, str]]] = {
    "Jwt is missing": (
        "missing",
        "The call brings no credentials: send an API key as `x-api-key: KEY`, or a token as"
        " `authorization: Bearer TOKEN`.",
    ),
    "Jwt is expired": ("expired", "The token has expired: get another."),
    "Jwt not yet valid": ("early", "The token is not valid yet: is a clock wrong?"),
    "Jwt issuer is not configured": (
        "issuer",
        "The token is of an issuer that this mesh does not know: see its claim `iss`.",
    ),
    "Audiences in Jwt are not allowed": (
        "audience",
        "The token is meant for somebody else: its claim `aud` does not name this mesh.",
    ),
    "Jwt verification fails": (
        "signature",
        "The token's signature is wrong: get another from an issuer that this mesh knows.",
    ),
    "Jwks doesn't have key to match kid or alg from Jwt": (
        "signature",
        "The token is signed with a key that this mesh does not know: get another from an"
        " issuer that it knows.",
    ),
}
# What is wrong with a key, by the coordinator's word for it.
_KEY_PROBLEMS: Final[Mapping[str, str]] = {
    "unknown": "The API key is unknown: was all of it copied, and was it made in this mesh?",
    "expired": "The API key has expired: make another with `agentmesh key create`.",
    "revoked": "The API key was revoked: make another with `agentmesh key create`.",
}


@dataclass(frozen=True, slots=True)
class _Refusal:
    """An answer of the gateway's own, and what is said in its place."""

    # Filters as of an access log, all of which it passes.
    when: tuple[Any, ...]
    # Of HTTP, for those who asked in JSON.
    status: int
    error: MeshError


def mappers(policy: Policy) -> list[Any]:
    """For `local_reply_config`, where the first that fits an answer counts."""
    refusals = (*_unauthenticated(), *_unavailable(), *_forbidden(policy))
    return [each for refusal in refusals for each in _in_every_shape(refusal)]


def _unauthenticated() -> Iterator[_Refusal]:
    refused = _details("jwt_authn_access_denied")
    # What begins as a key and goes on as none is not sent to the coordinator.
    for sent in (_header("x-api-key", present_match=True), _begins("authorization", "Bearer amk_")):
        yield _unknown_caller(
            (refused, sent),
            "malformed",
            "The API key is malformed: it is amk_, an id, _ and 43 more characters.",
        )
    for said, (problem, message) in _TOKEN_PROBLEMS.items():
        noted = _noted(_TOKENS, FAILED_KEY, "message", exact=said)
        yield _unknown_caller((refused, noted), problem, message)
    yield _unknown_caller(
        (refused,),
        "malformed",
        "The token cannot be read: it must be a JWT, in three parts, with a claim `exp`.",
    )
    for problem, message in _KEY_PROBLEMS.items():
        noted = _noted(_KEYS, PROBLEM_KEY, exact=problem)
        yield _unknown_caller((_details("ext_authz_denied"), noted), problem, message)
    yield _unknown_caller(
        (_details("rbac_access_denied"), {"or_filter": {"filters": list(_not_whole())}}),
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
        yield _header(name, string_match={"safe_regex": {"regex": regex}}, invert_match=True)


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


def _unknown_caller(when: tuple[Any, ...], problem: str, message: str) -> _Refusal:
    return _Refusal(when, 401, Unauthenticated(message, metadata={"problem": problem}))


def _in_every_shape(refusal: _Refusal) -> Iterator[Any]:
    """gRPC-web first: its name begins with that of gRPC."""
    status = to_status(refusal.error)
    details = base64.b64encode(status.SerializeToString()).decode().rstrip("=")
    yield {
        "filter": _all(*refusal.when, _begins(SHAPE_KEY, _WEB)),
        "status_code": 200,
        "body": {"inline_bytes": base64.b64encode(_trailers(status, details)).decode()},
        "body_format_override": {
            "text_format_source": {"inline_string": "%LOCAL_REPLY_BODY%"},
            "content_type": f"{_WEB}+proto",
        },
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
        "body_format_override": {
            "json_format": MessageToDict(status),
            "content_type": "application/json",
        },
    }


def _trailers(status: status_pb2.Status, details: str) -> bytes:
    """A frame of trailers, by which an answer of gRPC-web ends."""
    message = quote(status.message, safe=" `'\"()[]{}=,;:.?!/_-")
    lines = (f"grpc-status:{status.code}", f"grpc-message:{message}")
    text = "".join(f"{line}\r\n" for line in (*lines, f"{STATUS_DETAILS_KEY}:{details}"))
    return b"\x80" + len(text).to_bytes(4, "big") + text.encode("ascii")


def _set(key: str, value: str) -> Any:
    return {"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}


def _all(*filters: Any) -> Any:
    return filters[0] if len(filters) == 1 else {"and_filter": {"filters": list(filters)}}


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
