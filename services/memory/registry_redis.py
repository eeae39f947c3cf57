"""The registry of documents in Redis.

Keys of a tenant, all in one slot of a cluster:

    memory:{tenant}:knowledge   hash: `epoch`, and `count` of changes
    memory:{tenant}:documents   hash: document id -> the document as JSON
    memory:{tenant}:versions    hash: document id -> `version:passages:since`
    memory:{tenant}:removable   sorted set: `version:passages` by time, of versions
                                that do not count (any more)
"""

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, cast

from redis.asyncio import Redis

from meshkit.errors import CorruptData
from meshkit.ids import Ids
from meshkit.redis_store import Script
from services.memory.document import Document, Version
from services.memory.retrieval import Current, Knowledge

_OPEN: Final = "return redis.call('HSETNX', KEYS[1], 'epoch', ARGV[1])"

_CLEAR: Final = """
redis.call('DEL', KEYS[1], KEYS[2], KEYS[3], KEYS[4])
redis.call('HSET', KEYS[1], 'epoch', ARGV[1])
"""

# ARGV: document, its JSON, version, the version it replaces or '', time.
_PUBLISH: Final = """
local entry = redis.call('HGET', KEYS[3], ARGV[1]) or ''
local counts = string.match(entry, '^(.+):%d+$') or ''
if counts ~= ARGV[4] then return 0 end
if redis.call('ZREM', KEYS[4], ARGV[3]) == 0 then return 0 end
if counts ~= '' then redis.call('ZADD', KEYS[4], ARGV[5], counts) end
local since = redis.call('HINCRBY', KEYS[1], 'count', 1)
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
redis.call('HSET', KEYS[3], ARGV[1], ARGV[3] .. ':' .. since)
return 1
"""

# ARGV: documents. What nobody may find again is to be removed at once.
_WITHDRAW: Final = """
local count = 0
for i = 1, #ARGV do
  local entry = redis.call('HGET', KEYS[3], ARGV[i])
  if entry then
    local version = string.match(entry, '^(.+):%d+$')
    redis.call('HDEL', KEYS[2], ARGV[i])
    redis.call('HDEL', KEYS[3], ARGV[i])
    redis.call('ZADD', KEYS[4], 0, version)
    count = count + 1
  end
end
if count > 0 then redis.call('HINCRBY', KEYS[1], 'count', 1) end
return count
"""

_CURRENT: Final = """
return {redis.call('HMGET', KEYS[2], unpack(ARGV)), redis.call('HMGET', KEYS[3], unpack(ARGV))}
"""

_KNOWLEDGE: Final = "return redis.call('HMGET', KEYS[1], 'epoch', 'count')"
_COUNT: Final = "return redis.call('HLEN', KEYS[2])"
_BEGIN: Final = "redis.call('ZADD', KEYS[4], ARGV[2], ARGV[1])"
_REMOVED: Final = "redis.call('ZREM', KEYS[4], ARGV[1])"
_ABANDONED: Final = "return redis.call('ZRANGEBYSCORE', KEYS[4], '-inf', ARGV[1], 'LIMIT', 0, 100)"


class RedisRegistry:
    """Which version of each document counts, changed by scripts: each is one step."""

    def __init__(self, redis: Redis, ids: Ids) -> None:
        self._ids: Final = ids
        self._open: Final = Script(redis, _OPEN)
        self._clear: Final = Script(redis, _CLEAR)
        self._publish: Final = Script(redis, _PUBLISH)
        self._withdraw: Final = Script(redis, _WITHDRAW)
        self._current: Final = Script(redis, _CURRENT)
        self._knowledge: Final = Script(redis, _KNOWLEDGE)
        self._count: Final = Script(redis, _COUNT)
        self._begin: Final = Script(redis, _BEGIN)
        self._removed: Final = Script(redis, _REMOVED)
        self._abandoned: Final = Script(redis, _ABANDONED)

    async def count(self, tenant: str) -> int:
        """How many documents the tenant has."""
        return int(await self._count.run(_keys(tenant)))

    async def open(self, tenant: str) -> bool:
        """Begins to keep the tenant's documents; False where that was begun before."""
        return bool(await self._open.run(_keys(tenant), [self._ids.new()]))

    async def clear(self, tenant: str) -> None:
        """Forgets all of the tenant's documents, and begins anew."""
        await self._clear.run(_keys(tenant), [self._ids.new()])

    async def knowledge(self, tenant: str) -> Knowledge | None:
        """The state of the tenant's knowledge; None where there never was any."""
        epoch, count = cast(list[Any], await self._knowledge.run(_keys(tenant)))
        return Knowledge(epoch.decode(), int(count or 0)) if epoch else None

    async def documents(self, tenant: str, ids: Collection[str]) -> Mapping[str, Document]:
        """Those of `ids` that there are."""
        return {id_: each.document for id_, each in (await self.current(tenant, ids)).items()}

    async def current(self, tenant: str, ids: Collection[str]) -> Mapping[str, Current]:
        """What counts of these documents, all at one moment."""
        if not ids:
            return {}
        asked = list(ids)
        documents, versions = cast(
            tuple[list[Any], list[Any]], await self._current.run(_keys(tenant), asked)
        )
        return {
            id_: _decode(tenant, id_, document, version)
            for id_, document, version in zip(asked, documents, versions, strict=True)
            if document is not None and version is not None
        }

    async def begin(self, tenant: str, version: Version, now: datetime) -> None:
        """Notes that passages are stored that do not count yet."""
        await self._begin.run(_keys(tenant), [_reference(version), now.timestamp()])

    async def publish(
        self, tenant: str, document: Document, replaces: Version | None, now: datetime
    ) -> bool:
        """Lets this version count instead of `replaces`; False where it cannot."""
        return bool(
            await self._publish.run(
                _keys(tenant),
                [
                    document.id,
                    _encode(document),
                    _reference(document.version),
                    _reference(replaces) if replaces else "",
                    now.timestamp(),
                ],
            )
        )

    async def withdraw(self, tenant: str, ids: Collection[str]) -> int:
        """Lets no version of these documents count; answers how many did."""
        return int(await self._withdraw.run(_keys(tenant), list(ids)))

    async def abandoned(self, tenant: str, before: datetime) -> Sequence[Version]:
        """At most 100 versions that should have been gone by then."""
        return _versions(await self._abandoned.run(_keys(tenant), [before.timestamp()]))

    async def removed(self, tenant: str, version: Version) -> None:
        """Notes that the passages of this version are gone."""
        await self._removed.run(_keys(tenant), [_reference(version)])


def _keys(tenant: str) -> list[str]:
    return [
        f"memory:{{{tenant}}}:{part}"
        for part in ("knowledge", "documents", "versions", "removable")
    ]


def _reference(version: Version) -> str:
    return f"{version.id}:{version.passage_count}"


def _versions(references: Any) -> list[Version]:
    pairs = (each.decode().rsplit(":", 1) for each in references)
    return [Version(id_, int(count)) for id_, count in pairs]


def _encode(document: Document) -> str:
    return json.dumps(
        {
            "uri": document.uri,
            "title": document.title,
            "media_type": document.media_type,
            "digest": document.digest,
            "recipe": document.recipe,
            "size_bytes": document.size_bytes,
            "update_time": document.update_time.isoformat(),
            "labels": dict(document.labels),
        },
        ensure_ascii=False,
    )


def _decode(tenant: str, id_: str, document: bytes, entry: bytes) -> Current:
    try:
        version, count, since = entry.decode().split(":")
        fields: dict[str, Any] = json.loads(document)
        return Current(
            Document(
                id=id_,
                uri=fields["uri"],
                title=fields["title"],
                media_type=fields["media_type"],
                digest=fields["digest"],
                recipe=fields["recipe"],
                version=Version(version, int(count)),
                size_bytes=fields["size_bytes"],
                update_time=datetime.fromisoformat(fields["update_time"]),
                labels=fields["labels"],
            ),
            int(since),
        )
    except (ValueError, KeyError) as error:
        raise CorruptData(
            f"Failed to read document {id_} of tenant {tenant} from Redis: {error}"
        ) from error
