"""API keys on a JetStream stream: a subject each, whose last message counts, and one for its use.

Coordinators follow all of the stream, so that each knows every key.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp

from agentmesh.access.v1.stored_api_key_pb2 import StoredApiKey
from meshkit.bus import Bus, Followed, StreamSpec
from meshkit.errors import DependencyUnavailable
from meshkit.stored_keys import STREAM, key_subject
from services.coordinator.api_keys import Stored
from services.coordinator.key_ring import Change

_KEY: Final = "key"
_USE: Final = "use"
_ALL: Final = "apikey.>"
# Written before keys are removed.
_SWEPT: Final = "apikey.swept"
_READ_AHEAD: Final = 1024
# Beyond the longest time between the first and the last coordinator's word of the same use.
_DUPLICATE_WINDOW_SECONDS: Final = 10.0


class JetStreamApiKeyStore:
    """A Store of keys and their uses, and the Feed of key rings. Each write of a key is a
    compare-and-set."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def prepare(self) -> None:
        """Creates the stream, or brings it up to date."""
        await self._bus.ensure_stream(
            StreamSpec(
                name=STREAM,
                subjects=(_ALL,),
                max_messages_per_subject=1,
                duplicate_window_seconds=_DUPLICATE_WINDOW_SECONDS,
                description="API keys by hash, as they stand, and when each was last used.",
            )
        )

    async def read(self, tenant: str, key_id: str) -> Stored | None:
        """The key, if it is there."""
        message = await self._bus.last(STREAM, key_subject(tenant, key_id))
        if message is None:
            return None
        return Stored(StoredApiKey.FromString(message.payload), message.sequence)

    async def write(self, tenant: str, key_id: str, record: StoredApiKey, *, after: int) -> None:
        """Replaces what stands at `after`; Conflict if that is not there any more."""
        await self._bus.append(
            key_subject(tenant, key_id), record.SerializeToString(), expected_last=after
        )

    async def list(self, tenant: str) -> AsyncIterator[StoredApiKey]:
        """All of a tenant's, in no order."""
        async for message in self._bus.read(STREAM, key_subject(tenant, "*")):
            yield StoredApiKey.FromString(message.payload)

    async def uses(self, tenant: str) -> Mapping[str, datetime]:
        """When each key of the tenant was last used, by id."""
        return {
            message.subject.rpartition(".")[2]: _time(message.payload)
            async for message in self._bus.read(STREAM, _use_subject(tenant, "*"))
        }

    async def note_use(self, tenant: str, key_id: str, time: datetime, *, once_per: str) -> None:
        """Keeps when a key was used, once among those who say so at the time `once_per`."""
        stamp = Timestamp()
        stamp.FromDatetime(time)
        await self._bus.publish(
            _use_subject(tenant, key_id),
            stamp.SerializeToString(),
            message_id=f"{key_id}.{once_per}",
        )

    async def remove(self, tenant: str, key_id: str) -> None:
        """Removes all there is about a key.

        The newest message of the stream stays: who follows would wait for it in vain.
        """
        await self._bus.publish(_SWEPT, b"", message_id=f"{_SWEPT}.{key_id}")
        for subject in (_use_subject(tenant, key_id), key_subject(tenant, key_id)):
            await self._bus.purge(STREAM, subject)

    async def changes(self) -> AsyncGenerator[Sequence[Change]]:
        """All that is stored, oldest first, and then what comes, until something goes wrong.

        Raises:
            DependencyUnavailable: Something did.
        """
        async with self._bus.follow(STREAM, _ALL, start_sequence=1, window=_READ_AHEAD) as follower:
            while True:
                await follower.wait()
                yield [_change(each) for each in await follower.take()]

    async def newest(self) -> int:
        """The sequence of the newest change that is stored; 0 where there is none.

        Only who leads the stream answers: another server of a cluster may not know yet.
        """
        found = await self._bus.stream_info(STREAM)
        if found is None:
            raise DependencyUnavailable(
                "The stream of API keys is gone.", metadata={"dependency": self._bus.name}
            )
        return int(found["state"]["last_seq"])


def _use_subject(tenant: str, key_id: str) -> str:
    return f"apikey.{_USE}.{tenant}.{key_id}"


def _change(message: Followed) -> Change:
    kind, _, rest = message.subject.removeprefix("apikey.").partition(".")
    key_id = rest.rpartition(".")[2]
    try:
        if kind == _USE:
            return Change(message.sequence, key_id, None, _time(message.payload))
        if kind == _KEY:
            return Change(message.sequence, key_id, StoredApiKey.FromString(message.payload), None)
    except DecodeError:
        # What cannot be read is no key: who shows it is not let in, and all others are.
        pass
    return Change(message.sequence, key_id, None, None)


def _time(payload: bytes) -> datetime:
    return Timestamp.FromString(payload).ToDatetime(tzinfo=UTC)
