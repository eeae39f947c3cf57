"""API keys at the wire, checked: every field that is wrong is named."""

from typing import Final

from agentmesh.access.v1 import access_service_pb2 as pb
from agentmesh.access.v1.access_service_pb2 import ApiKey
from meshkit.errors import InvalidField, Violation
from services.coordinator import key_scopes

_MAX_DISPLAY_NAME: Final = 100
_MAX_SCOPES: Final = 32
# Timestamps end there.
_MAX_SECONDS: Final = 253402300799


def api_key(requested: ApiKey) -> ApiKey:
    """What the caller asked for, with output-only fields dropped and scopes spelled out.

    Raises:
        InvalidField: With every violation found.
    """
    found: list[Violation] = []
    name = requested.display_name
    if len(name) > _MAX_DISPLAY_NAME or not name.isprintable():
        text = f"must be at most {_MAX_DISPLAY_NAME} characters, all of them to be seen"
        found.append(Violation("api_key.display_name", text))
    if requested.role not in pb.Role.values():
        found.append(Violation("api_key.role", "must be a Role"))
    scopes: tuple[str, ...] = ()
    if len(requested.scopes) > _MAX_SCOPES:
        found.append(Violation("api_key.scopes", f"must be at most {_MAX_SCOPES}"))
    else:
        try:
            scopes = key_scopes.spelled_out(requested.scopes, field="api_key.scopes")
        except InvalidField as error:
            found += error.violations
    if not 0 <= requested.expire_time.seconds <= _MAX_SECONDS or not (
        0 <= requested.expire_time.nanos < 1_000_000_000
    ):
        found.append(Violation("api_key.expire_time", "must be a time from 1970 to 9999"))
    if found:
        raise InvalidField.many(found)
    return ApiKey(
        display_name=name,
        role=requested.role or pb.ROLE_USER,
        scopes=scopes,
        expire_time=requested.expire_time if requested.HasField("expire_time") else None,
    )
