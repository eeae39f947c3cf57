"""Where API keys are stored, for all that look them up there."""

from datetime import UTC, datetime
from typing import Final

from google.protobuf.message import DecodeError

from agentmesh.access.v1.stored_api_key_pb2 import StoredApiKey
from meshkit.bus import Bus

STREAM: Final = "API_KEYS"


def key_subject(tenant: str, key_id: str) -> str:
    """The subject whose last message is the key as it stands."""
    return f"apikey.key.{tenant}.{key_id}"


async def revoked(bus: Bus, tenant: str, key_id: str) -> datetime | None:
    """When the key was revoked; None for one that is in force.

    One that is not stored was given to the mesh at its start, and is in force. Raises
    DependencyUnavailable.
    """
    message = await bus.last(STREAM, key_subject(tenant, key_id))
    if message is None:
        return None
    try:
        key = StoredApiKey.FromString(message.payload).api_key
    except DecodeError:
        # Nothing says that somebody revoked it. No further call comes in by it.
        return None
    return key.revoke_time.ToDatetime(tzinfo=UTC) if key.HasField("revoke_time") else None
