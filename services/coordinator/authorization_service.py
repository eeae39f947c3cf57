"""Envoy's Authorization service: gateways ask whose a request with an API key is."""

import base64
import json
from collections.abc import Mapping
from typing import Any, Final, Protocol, cast
from urllib.parse import quote

from google.protobuf import json_format
from google.rpc import status_pb2

from agentmesh.access.v1.access_service_pb2 import ApiKey
from envoyproxy.auth.v3 import external_auth_pb2 as pb
from envoyproxy.auth.v3.external_auth_pb2_grpc import AuthorizationServicer
from meshkit import names
from meshkit.api_key import PREFIX
from meshkit.constants import (
    AUTHORIZATION_KEY,
    CALLER_KEY,
    EXPIRES_KEY,
    KEY_CALLER,
    ROLE_KEY,
    SCOPES_KEY,
    STATUS_DETAILS_KEY,
    TENANT_KEY,
)
from meshkit.errors import MeshError, Unauthenticated, to_status
from services.coordinator.key_check import refused
from services.coordinator.key_powers import role_name

_Context = Any
_API_KEY: Final = "x-api-key"
_BEARER: Final = "bearer "


class Check(Protocol):
    """Knows keys by their texts."""

    async def check(self, text: str) -> ApiKey: ...


class AuthorizationServicerOfKeys(AuthorizationServicer):
    """Answers who a request's API key stands for, or, in the request's own shape, what is wrong.

    Serves unguarded: it is asked for every request that has a key.
    """

    def __init__(self, keys: Check) -> None:
        self._keys: Final = keys

    async def Check(self, request: pb.CheckRequest, context: _Context) -> pb.CheckResponse:
        """OK with the caller's identity, or a denial. UNAVAILABLE where nobody can tell."""
        headers = request.attributes.request.http.headers
        try:
            return _passed(await self._keys.check(_credential(headers)))
        except Unauthenticated as error:
            return _denied(error, headers.get("content-type", ""))
        except MeshError as error:
            await context.abort(error.code, str(error))
            raise AssertionError("abort raises") from error


def _credential(headers: Mapping[str, str]) -> str:
    """The text of the API key that a request shows."""
    bearer = headers.get(AUTHORIZATION_KEY, "")
    shown = {headers.get(_API_KEY, "").strip()}
    if bearer[: len(_BEARER)].lower() == _BEARER:
        shown.add(bearer[len(_BEARER) :].strip())
    shown.discard("")
    if not shown:
        raise refused(
            "none",
            f"The call has no API key: send one as `{AUTHORIZATION_KEY}: Bearer {PREFIX}...`.",
        )
    if len(shown) > 1:
        raise refused("malformed", "The call has two different credentials: send one of them.")
    return shown.pop()


def _passed(key: ApiKey) -> pb.CheckResponse:
    tenant, key_id = names.API_KEY.parse(key.name, field="name")
    who = {
        TENANT_KEY: tenant,
        CALLER_KEY: f"{KEY_CALLER}{key_id}",
        ROLE_KEY: role_name(key.role),
    }
    if key.scopes:
        who[SCOPES_KEY] = " ".join(key.scopes)
    if key.HasField("expire_time"):
        who[EXPIRES_KEY] = str(key.expire_time.seconds)
    # Nobody behind the gateway gets to see a secret.
    answer = pb.OkHttpResponse(
        headers=_headers(who), headers_to_remove=[_API_KEY, AUTHORIZATION_KEY]
    )
    return pb.CheckResponse(status=status_pb2.Status(code=0), ok_response=answer)


def _denied(error: Unauthenticated, content_type: str) -> pb.CheckResponse:
    """The error as gRPC, gRPC-web or JSON have it; Envoy adds to gRPC what follows from 401."""
    status = to_status(error)
    details = base64.b64encode(status.SerializeToString()).decode()
    answer = pb.DeniedHttpResponse(status=pb.HttpStatus(code=401), body=error.message)
    if content_type.startswith("application/grpc-web"):
        answer.status.code = 200
        answer.body = ""
        sent = {
            "content-type": content_type,
            "grpc-status": str(status.code),
            "grpc-message": quote(error.message, safe=" `:.,_"),
            STATUS_DETAILS_KEY: details,
        }
    elif content_type.startswith("application/grpc"):
        sent = {STATUS_DETAILS_KEY: details}
    else:
        answer.body = json.dumps(
            cast(Any, json_format.MessageToDict(status)), separators=(",", ":")
        )
        sent = {"content-type": "application/json", "www-authenticate": "Bearer"}
    answer.headers.extend(_headers(sent))
    return pb.CheckResponse(status=status, denied_response=answer)


def _headers(values: Mapping[str, str]) -> list[pb.HeaderValueOption]:
    return [
        pb.HeaderValueOption(header=pb.HeaderValue(key=key, value=value))
        for key, value in values.items()
    ]
