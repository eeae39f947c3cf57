"""Content outside of messages: a JetStream object store, keyed by digest.

The layout is that of any NATS object store, so that the `nats` command reads
it: chunks on one subject, and a message about the whole on another.
"""

import asyncio
import base64
import hashlib
import json
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from agentmesh.common.v1 import conversation_pb2
from meshkit.bus_messages import StoredMessage, StreamSpec
from meshkit.errors import Conflict, CorruptData
from meshkit.ids import Ids

BUCKET: Final = "blobs"
STREAM: Final = f"OBJ_{BUCKET}"
_CHUNK_BYTES: Final = 128 * 1024


class Store(Protocol):
    """What blobs need of a bus."""

    async def ensure_stream(self, spec: StreamSpec) -> None: ...
    async def append(self, subject: str, payload: bytes, *, expected_last: int) -> int: ...
    async def publish(self, subject: str, payload: bytes, *, message_id: str) -> int: ...
    async def last(self, stream: str, subject_filter: str) -> StoredMessage | None: ...
    def read(self, stream: str, subject_filter: str) -> Any: ...
    async def purge(self, stream: str, subject_filter: str) -> int: ...


class Blobs:
    """The bucket `blobs`. Equal content is kept once."""

    def __init__(self, store: Store, ids: Ids) -> None:
        self._store: Final = store
        self._ids: Final = ids
        self._ensured = False

    async def ensure(
        self, *, max_age_seconds: float | None = None, max_bytes: int | None = None
    ) -> None:
        """Creates or updates the bucket."""
        await self._store.ensure_stream(
            StreamSpec(
                name=STREAM,
                subjects=(f"$O.{BUCKET}.C.>", f"$O.{BUCKET}.M.>"),
                description="Content that is too large for a message, by its SHA-256.",
                max_age_seconds=max_age_seconds,
                max_bytes=max_bytes,
                refuse_when_full=True,
                allow_rollup=True,
            )
        )
        self._ensured = True

    async def put(self, content: bytes, media_type: str) -> conversation_pb2.BlobRef:
        """Stores the content, if it is not there yet."""
        if not self._ensured:
            await self.ensure()
        digest = hashlib.sha256(content).digest()
        key = digest.hex()
        reference = conversation_pb2.BlobRef(
            digest=key, size_bytes=len(content), media_type=media_type
        )
        before = await self._store.last(STREAM, _about(key))
        if before is not None and not json.loads(before.payload).get("deleted"):
            return reference
        unique = self._ids.new()
        chunks = [content[at : at + _CHUNK_BYTES] for at in range(0, len(content), _CHUNK_BYTES)]
        # One after another: their order on the subject is the content's.
        for number, chunk in enumerate(chunks):
            await self._store.publish(_chunks(unique), chunk, message_id=f"{unique}.{number}")
        about = {
            "name": key,
            "description": media_type,
            "options": {"max_chunk_size": _CHUNK_BYTES},
            "bucket": BUCKET,
            "nuid": unique,
            "size": len(content),
            "chunks": len(chunks),
            "digest": f"SHA-256={base64.urlsafe_b64encode(digest).decode()}",
            "mtime": datetime.now(UTC).isoformat(),
        }
        try:
            await self._store.append(
                _about(key),
                json.dumps(about).encode(),
                expected_last=before.sequence if before else 0,
            )
        except Conflict:
            await self._store.purge(STREAM, _chunks(unique))  # somebody else was quicker
        return reference

    async def get(self, reference: conversation_pb2.BlobRef) -> bytes:
        """The content; CorruptData where it is missing or not what it should be."""
        key = reference.digest
        about = await self._store.last(STREAM, _about(key)) if _is_digest(key) else None
        if about is None:
            raise CorruptData(f"There is no content with digest {key}.")
        facts: dict[str, Any] = json.loads(about.payload)
        content = (
            b"".join(
                [each.payload async for each in self._store.read(STREAM, _chunks(facts["nuid"]))]
            )
            if facts["size"]
            else b""
        )
        if await asyncio.to_thread(_digest, content) != key:
            raise CorruptData(f"The content with digest {key} is damaged.")
        return content

    async def delete(self, key: str) -> None:
        """Removes content, if it is there."""
        about = await self._store.last(STREAM, _about(key))
        if about is not None:
            await self._store.purge(STREAM, _about(key))
            await self._store.purge(STREAM, _chunks(json.loads(about.payload)["nuid"]))


def _about(key: str) -> str:
    return f"$O.{BUCKET}.M.{base64.urlsafe_b64encode(key.encode()).decode()}"


def _chunks(unique: str) -> str:
    return f"$O.{BUCKET}.C.{unique}"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _is_digest(key: str) -> bool:
    return len(key) == 64 and not set(key) - set("0123456789abcdef")
