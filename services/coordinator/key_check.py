"""Whether a caller may come in by what it shows: an API key."""

from datetime import UTC, datetime
from typing import Final, Protocol

from google.protobuf.timestamp_pb2 import Timestamp

from agentmesh.access.v1.access_service_pb2 import ApiKey
from agentmesh.access.v1.stored_api_key_pb2 import StoredApiKey
from meshkit.api_key import ApiKeyText, MalformedApiKey
from meshkit.clock import Clock
from meshkit.errors import Unauthenticated
from services.coordinator.api_keys import state_of

# What a secret is compared with where no key has the id, so that it takes as long.
_NOBODYS: Final = bytes(32)


class Keys(Protocol):
    """Knows the keys of all tenants."""

    async def find(self, key_id: str) -> StoredApiKey | None: ...


class Uses(Protocol):
    """Keeps when keys are used."""

    def note(self, key: ApiKey, time: datetime) -> None: ...


class KeyCheck:
    """Knows keys by their texts."""

    def __init__(self, keys: Keys, uses: Uses, clock: Clock) -> None:
        self._keys: Final = keys
        self._uses: Final = uses
        self._clock: Final = clock

    async def check(self, text: str) -> ApiKey:
        """The key whose text it is.

        Whether it expired or was revoked is said to those alone who have all of it.

        Raises:
            Unauthenticated: It is no key in force; metadata `credential` has what it is
                instead: `malformed`, `unknown`, `expired` or `revoked`.
            DependencyUnavailable: It is not known how the keys stand.
        """
        try:
            shown = ApiKeyText.parse(text)
        except MalformedApiKey as error:
            raise refused("malformed", f"The API key is malformed. {error}") from None
        record = await self._keys.find(shown.key_id)
        if not shown.has_digest(_NOBODYS if record is None else record.secret_digest):
            raise refused("unknown", "The API key is unknown.")
        if record is None:
            raise refused("unknown", "The API key is unknown.")
        key = record.api_key
        now = self._clock.now()
        match state_of(key, now):
            case ApiKey.STATE_REVOKED:
                raise refused("revoked", f"The API key was revoked {_at(key.revoke_time)}.")
            case ApiKey.STATE_EXPIRED:
                raise refused("expired", f"The API key expired {_at(key.expire_time)}.")
            case _:
                self._uses.note(key, now)
                return key


def refused(credential: str, message: str) -> Unauthenticated:
    """The error for who shows a credential that is of no use, or `none`."""
    return Unauthenticated(message, metadata={"credential": credential})


def _at(stamp: Timestamp) -> str:
    return f"at {stamp.ToDatetime(tzinfo=UTC):%Y-%m-%d %H:%M:%S} UTC"
