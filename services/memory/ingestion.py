"""Taking documents in, and letting them go, so that each is there as a whole or not at all.

A version's passages are stored under an id of its own. Which version of a
document counts is said in one place, the registry, and changed there in one
step: passages first, then the registry, then the older passages go. Searches
heed the registry, so they never see both versions, or neither. What a crash
leaves behind is on the registry's list of versions to remove.
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from itertools import islice
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from meshkit.clock import Clock
from meshkit.errors import Conflict, MeshError, TooLarge
from meshkit.ids import Ids
from services.memory.document import Document, Outcome, Passage, Source, Upserted, Version
from services.memory.document_reader import DocumentReader
from services.memory.slots import Slots
from services.memory.splitter import Splitter

# What this version of the parsers and the splitter makes; to be raised when
# they give other passages, so that documents are split anew.
_RECIPE: Final = 1
_PUBLISH_ATTEMPTS: Final = 5
# Twice what the largest document gives unless it has a heading every few words.
_MAX_PASSAGES: Final = 20_000
# Nothing takes this long from the first passage stored to the version published.
_ABANDONED_AFTER: Final = timedelta(hours=1)

Vectors = NDArray[np.float32]


class Registry(Protocol):
    """Says which version of each document counts."""

    async def count(self, tenant: str) -> int:
        """How many documents the tenant has."""
        ...

    async def open(self, tenant: str) -> bool:
        """Begins to keep the tenant's documents; False where that was begun before."""
        ...

    async def clear(self, tenant: str) -> None:
        """Forgets all of the tenant's documents."""
        ...

    async def documents(self, tenant: str, ids: Collection[str]) -> Mapping[str, Document]:
        """Those of `ids` that there are."""
        ...

    async def begin(self, tenant: str, version: Version, now: datetime) -> None:
        """Notes that passages are stored that do not count yet."""
        ...

    async def publish(
        self, tenant: str, document: Document, replaces: Version | None, now: datetime
    ) -> bool:
        """Lets this version count instead of `replaces`, which is to be removed then.

        False, with nothing changed, where another version counts, or where
        this one was given up.
        """
        ...

    async def withdraw(self, tenant: str, ids: Collection[str]) -> int:
        """Lets no version of these documents count, which are abandoned thereby; how many did."""
        ...

    async def abandoned(self, tenant: str, before: datetime) -> Sequence[Version]:
        """Versions that were withdrawn, and those replaced, or begun, before then, not gone yet."""
        ...

    async def removed(self, tenant: str, version: Version) -> None:
        """Notes that the passages of this version are gone."""
        ...


class PassageStore(Protocol):
    """Keeps passages with their vectors."""

    async def exists(self, tenant: str) -> bool:
        """Whether anything was ever stored for the tenant."""
        ...

    async def drop(self, tenant: str) -> None:
        """Removes all that the tenant has."""
        ...

    async def store(
        self,
        tenant: str,
        document: str,
        version: Version,
        passages: Sequence[Passage],
        vectors: Vectors,
    ) -> None:
        """Stores the passages of a version."""
        ...

    async def remove(self, tenant: str, version: Version) -> None:
        """Removes the passages of a version, as far as they are there."""
        ...


class Embedder(Protocol):
    """Turns texts into vectors."""

    async def embed_passages(self, texts: Sequence[str]) -> Vectors:
        """A row of unit length for each text; DependencyUnavailable where that fails."""
        ...


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A document that has to be stored."""

    source: Source
    id: str
    title: str
    media_type: str
    digest: str
    passages: Sequence[Passage]
    before: Document | None


class Ingestion:
    """The tenants' documents, from the side that writes."""

    def __init__(
        self,
        *,
        reader: DocumentReader,
        splitter: Splitter,
        embedder: Embedder,
        registry: Registry,
        store: PassageStore,
        clock: Clock,
        ids: Ids,
        recipe: str,
        slots: Slots,
    ) -> None:
        """`recipe` names the settings on which passages and vectors depend."""
        self._reader: Final = reader
        self._splitter: Final = splitter
        self._embedder: Final = embedder
        self._registry: Final = registry
        self._store: Final = store
        self._clock: Final = clock
        self._ids: Final = ids
        self._recipe: Final = f"{_RECIPE}:{recipe}"
        self._slots: Final = slots
        self._opening: Final = asyncio.Lock()
        self._opened: Final[set[str]] = set()

    async def upsert(self, tenant: str, sources: Sequence[Source]) -> Sequence[Upserted]:
        """Stores what is new or changed; answers in order. No two sources have the same uri.

        Raises DependencyUnavailable, with nothing stored where the embedder is
        what fails, and QueueFull.
        """
        async with self._slots:
            await self._open(tenant)
            ids = [self.document_id(tenant, each.uri) for each in sources]
            known = await self._registry.documents(tenant, ids)
            plans = [
                await self._prepare(id_, source, known.get(id_))
                for id_, source in zip(ids, sources, strict=True)
            ]
            texts = [
                _embedded_text(plan.title, passage)
                for plan in plans
                if isinstance(plan, _Prepared)
                for passage in plan.passages
            ]
            vectors = (
                await self._embedder.embed_passages(texts)
                if texts
                else np.empty((0, 0), np.float32)
            )
            results: list[Upserted] = []
            offset = 0
            for plan in plans:
                if isinstance(plan, _Prepared):
                    end = offset + len(plan.passages)
                    results.append(await self._put(tenant, plan, vectors[offset:end]))
                    offset = end
                else:
                    results.append(plan)
            await self._sweep(tenant)
            return results

    async def delete(self, tenant: str, documents: Collection[str]) -> int:
        """Removes the documents of these ids; answers how many there were.

        What an earlier call withdrew and could not remove goes, too: a repeat has done
        all of the deletion when it answers.
        """
        count = await self._registry.withdraw(tenant, documents)
        while await self._sweep(tenant):
            pass
        return count

    def document_id(self, tenant: str, uri: str) -> str:
        """The id of the document with this uri."""
        return self._ids.stable("document", tenant, uri)

    async def _open(self, tenant: str) -> None:
        """Makes sure that registry and store are of one mind before the first document goes in.

        One of them may have lost its data. A version that counts but has no
        passages would pass for UNCHANGED for ever; passages that no version
        counts for would only be in the way.
        """
        if tenant in self._opened:
            return
        async with self._opening:
            # In this order: who stores opens first, and publishes last.
            count = await self._registry.count(tenant)
            exists = await self._store.exists(tenant)
            fresh = await self._registry.open(tenant)
            if count and not exists:
                await self._registry.clear(tenant)
            if exists and fresh:
                await self._store.drop(tenant)
            self._opened.add(tenant)

    async def _prepare(
        self, id_: str, source: Source, before: Document | None
    ) -> _Prepared | Upserted:
        digest = sha256(source.content).hexdigest()
        try:
            media_type = self._reader.media_type(source)
            if before and self._is_same(before, source, digest, media_type):
                return Upserted(source.uri, Outcome.UNCHANGED, before)
            title, passages = await asyncio.to_thread(self._read, source)
        except MeshError as error:
            return Upserted(source.uri, Outcome.FAILED, error=error)
        return _Prepared(source, id_, title, media_type, digest, passages, before)

    def _read(self, source: Source) -> tuple[str, Sequence[Passage]]:
        """Title and passages. Takes long for large documents."""
        parsed = self._reader.read(source)
        passages = list(islice(self._splitter.split(parsed), _MAX_PASSAGES + 1))
        if len(passages) > _MAX_PASSAGES:
            raise TooLarge(
                f"{source.uri} gives more than {_MAX_PASSAGES} passages, since it has very many "
                "headings. Add it in parts."
            )
        return parsed.title, passages

    def _is_same(self, before: Document, source: Source, digest: str, media_type: str) -> bool:
        return (
            before.digest == digest
            and before.recipe == self._recipe
            and before.media_type == media_type
            and before.title == (source.title or before.title)
            and before.labels == source.labels
        )

    async def _put(self, tenant: str, plan: _Prepared, vectors: Vectors) -> Upserted:
        now = self._clock.now()
        document = Document(
            id=plan.id,
            uri=plan.source.uri,
            title=plan.title,
            media_type=plan.media_type,
            digest=plan.digest,
            recipe=self._recipe,
            version=Version(self._ids.new(), len(plan.passages)),
            size_bytes=len(plan.source.content),
            update_time=now,
            labels=plan.source.labels,
        )
        await self._registry.begin(tenant, document.version, now)
        await self._store.store(tenant, plan.id, document.version, plan.passages, vectors)
        before = plan.before
        for _ in range(_PUBLISH_ATTEMPTS):
            replaced = before.version if before else None
            if await self._registry.publish(tenant, document, replaced, now):
                if replaced is not None:
                    await self._remove(tenant, replaced)
                outcome = Outcome.UPDATED if before else Outcome.CREATED
                return Upserted(document.uri, outcome, document)
            # Somebody else put another version in meanwhile: this one is the later.
            before = (await self._registry.documents(tenant, [plan.id])).get(plan.id)
            if before and self._is_same(before, plan.source, plan.digest, plan.media_type):
                await self._remove(tenant, document.version)
                return Upserted(document.uri, Outcome.UNCHANGED, before)
        await self._remove(tenant, document.version)
        conflict = Conflict(f"{document.uri} is being changed by others all the time; try again.")
        return Upserted(document.uri, Outcome.FAILED, error=conflict)

    async def _sweep(self, tenant: str) -> bool:
        """Removes a number of versions that were left behind; False if there were none."""
        before = self._clock.now() - _ABANDONED_AFTER
        abandoned = await self._registry.abandoned(tenant, before)
        for version in abandoned:
            await self._remove(tenant, version)
        return bool(abandoned)

    async def _remove(self, tenant: str, version: Version) -> None:
        await self._store.remove(tenant, version)
        await self._registry.removed(tenant, version)


def _embedded_text(title: str, passage: Passage) -> str:
    """A passage says more with the headings above it; they come first, cut to a few words."""
    path = " > ".join(passage.headings) or title
    return f"{path[:200]}\n{passage.text}"
