"""Refusals as they come over gRPC-web and JSON, read back as statuses."""

import base64
from collections.abc import Mapping
from urllib.parse import unquote

from google.protobuf import json_format
from google.rpc import status_pb2

from tests.gateway.running_gateway import Gateway

_TEXT = "application/grpc-web-text"
# A frame without a message.
_NOTHING = base64.b64encode(b"\0\0\0\0\0")


async def status_by_web(
    gateway: Gateway, path: str, headers: Mapping[str, str]
) -> status_pb2.Status:
    """What a call of gRPC-web ends with that is refused; `path` is the RPC's."""
    sent = {"content-type": _TEXT, **headers}
    answer = await gateway.http("POST", path, _NOTHING, sent)
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["content-type"] == _TEXT
    encoded = answer.headers["grpc-status-details-bin"]
    padded = encoded + "=" * (-len(encoded) % 4)
    status = status_pb2.Status.FromString(base64.b64decode(padded, validate=True))
    assert int(answer.headers["grpc-status"]) == status.code
    assert unquote(answer.headers["grpc-message"]) == status.message
    return status


async def status_by_json(
    gateway: Gateway, path: str, headers: Mapping[str, str]
) -> status_pb2.Status:
    """What a GET is refused with that lacks credentials."""
    answer = await gateway.http("GET", path, headers=headers)
    assert answer.status == 401
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["www-authenticate"] == "Bearer"
    return json_format.ParseDict(answer.json, status_pb2.Status())
