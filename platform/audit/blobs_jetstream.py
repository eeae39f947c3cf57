"""The content that tasks keep in the object store; only read. The layout is that of NATS."""

import base64
import hashlib
import json
from typing import Final

from audit.blobs import Reference
from meshkit.bus import Bus
from meshkit.bus_blobs import BUCKET, STREAM
from tasklog import subjects


class JetStreamBlobs:
    """Looks at content by the task that owns it."""

    def __init__(self, bus: Bus) -> None:
        self._bus: Final = bus
        self._is_there: bool | None = None

    async def exists(self, reference: Reference) -> bool:
        """Whether there is content under the digest."""
        return await self._chunks(reference) is not None

    async def is_whole(self, reference: Reference) -> bool:
        """Whether the content is there and matches its digest."""
        chunks = await self._chunks(reference)
        if chunks is None:
            return False
        digest = hashlib.sha256()
        async for chunk in self._bus.read(STREAM, chunks):
            digest.update(chunk.payload)
        return digest.hexdigest() == reference.digest

    async def _chunks(self, reference: Reference) -> str | None:
        """The subject of the content's chunks; None where there is none."""
        if self._is_there is None:
            self._is_there = await self._bus.stream_info(STREAM) is not None
        if not self._is_there:
            return None
        name = f"{subjects.owner(*reference.task)}.{reference.digest}"
        encoded = base64.urlsafe_b64encode(name.encode()).decode()
        about = await self._bus.last(STREAM, f"$O.{BUCKET}.M.{encoded}")
        if about is None:
            return None
        facts = json.loads(about.payload)
        return None if facts.get("deleted") else f"$O.{BUCKET}.C.{facts['nuid']}"
