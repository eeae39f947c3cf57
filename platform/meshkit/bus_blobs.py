"""Content outside of messages: a JetStream object store, keyed by owner and digest.

The layout is that of any NATS object store, so that the `nats` command reads
it: chunks on one subject, and a message about the whole on another. The chunks
of one owner share a prefix, so that all its content can be found and removed.
"""

import asyncio
import base64
import hashlib
import json
import re
from collections.abc import AsyncGenerator, Collection
from datetime import UTC, datetime
from typing import Final, Protocol

from agentmesh.common.v1 import conversation_pb2
from meshkit.bus_messages import StoredMessage, StreamSpec
from meshkit.errors import Conflict, CorruptData
from meshkit.ids import Ids

BUCKET: Final = "blobs"
STREAM: Final = f"OBJ_{BUCKET}"
_CHUNK_BYTES: Final = 128 * 1024
_OWNER: Final = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


class Source(Protocol):
    """Where streams are read."""

    async def last(self, stream: str, subject: str, /) -> StoredMessage | None: ...
    def read(self, stream: str, subject: str, /) -> AsyncGenerator[StoredMessage]: ...


class Store(Source, Protocol):
    """What blobs need of a bus."""

    async def ensure_stream(self, spec: StreamSpec) -> None: ...
    async def append(self, subject: str, payload: bytes, *, expected_last: int) -> int: ...
    async def publish(self, subject: str, payload: bytes, *, message_id: str) -> int: ...
    async def purge(self, stream: str, subject_filter: str) -> int: ...
    async def subjects(self, stream: str, subject_filter: str) -> Collection[str]: ...


class Blobs:
    """The bucket `blobs`. Equal content of one owner is kept once; owners share nothing."""

    def __init__(self, store: Store, leader: Source, ids: Ids) -> None:
        self._store: Final = store
        self._leader: Final = leader
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

    async def put(self, owner: str, content: bytes, media_type: str) -> conversation_pb2.BlobRef:
        """Stores the content, if the owner does not have it yet."""
        assert _OWNER.fullmatch(owner), "an owner is made of tokens of a subject"
        if not self._ensured:
            await self.ensure()
        digest = hashlib.sha256(content).digest()
        key = digest.hex()
        reference = conversation_pb2.BlobRef(
            digest=key, size_bytes=len(content), media_type=media_type
        )
        before = await self._store.last(STREAM, _about(owner, key))
        if before is not None and not json.loads(before.payload).get("deleted"):
            return reference
        unique = f"{owner}.{key}.{self._ids.new()}"
        # Even content of no bytes has a chunk, or its owner's could not be listed.
        chunks = [
            content[at : at + _CHUNK_BYTES] for at in range(0, max(1, len(content)), _CHUNK_BYTES)
        ]
        # One after another: their order on the subject is the content's.
        for number, chunk in enumerate(chunks):
            await self._store.publish(_chunks(unique), chunk, message_id=f"{unique}.{number}")
        about = {
            "name": _name(owner, key),
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
                _about(owner, key),
                json.dumps(about).encode(),
                expected_last=before.sequence if before else 0,
            )
        except Conflict:
            await self._store.purge(STREAM, _chunks(unique))  # somebody else was quicker
        return reference

    async def get(self, owner: str, reference: conversation_pb2.BlobRef) -> bytes:
        """The content; CorruptData where it is missing or not what it should be."""
        if not self._ensured:
            await self.ensure()
        try:
            return await _content(self._store, owner, reference.digest)
        except CorruptData:
            # A replica that is behind may have answered, with nothing or with a part.
            return await _content(self._leader, owner, reference.digest)

    async def delete(self, owner: str, key: str) -> None:
        """Removes content, if it is there."""
        about = await self._store.last(STREAM, _about(owner, key))
        if about is not None:
            await self._store.purge(STREAM, _about(owner, key))
            await self._store.purge(STREAM, _chunks(json.loads(about.payload)["nuid"]))

    async def delete_all(self, owner: str) -> None:
        """Removes everything that the owner has.

        The chunks tell what there is, so they go last: a call that broke off
        is finished by the next one.
        """
        assert _OWNER.fullmatch(owner), "an owner is made of tokens of a subject"
        everything = _chunks(f"{owner}.>")
        while chunks := await self._store.subjects(STREAM, everything):
            for key in {subject.split(".")[-2] for subject in chunks}:
                await self._store.purge(STREAM, _about(owner, key))
            for subject in chunks:
                await self._store.purge(STREAM, subject)


async def _content(source: Source, owner: str, key: str) -> bytes:
    about = await source.last(STREAM, _about(owner, key)) if _DIGEST.fullmatch(key) else None
    if about is None:
        raise CorruptData(f"There is no content of {owner} with digest {key}.")
    chunks = _chunks(json.loads(about.payload)["nuid"])
    content = b"".join([each.payload async for each in source.read(STREAM, chunks)])
    if await asyncio.to_thread(_digest, content) != key:
        raise CorruptData(f"The content of {owner} with digest {key} is damaged.")
    return content


def _name(owner: str, key: str) -> str:
    return f"{owner}.{key}"


def _about(owner: str, key: str) -> str:
    return f"$O.{BUCKET}.M.{base64.urlsafe_b64encode(_name(owner, key).encode()).decode()}"


def _chunks(unique: str) -> str:
    return f"$O.{BUCKET}.C.{unique}"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
