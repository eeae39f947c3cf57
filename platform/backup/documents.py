"""Documents and their vectors: two stores that are saved one after the other, made to agree.

Redis says which version of each document counts, and is saved first. The passages of a version
are stored before it counts, so those of every version that counts are there when the vectors
are saved, unless somebody replaced or removed the document in between. Then both are saved
again. What still differs is settled at the restore. See services/memory/registry_redis.py
and services/memory/vectors_qdrant.py, whose names these are.
"""

import base64
import json
import pickle
import sqlite3
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, NamedTuple
from uuid import UUID

from redis.asyncio import Redis

from backup.places import VECTORS

_PATTERN: Final = "memory:{*}:versions"
_SCANNED: Final = 1000
# As the local mode of Qdrant's client writes the key of a row.
_PICKLE_PROTOCOL: Final = 4


class Standing(NamedTuple):
    """Which version of a tenant's document counts, as `version:passages`."""

    tenant: str
    document: str
    version: str


async def counting(redis: Redis) -> set[Standing]:
    """Every version that counts now."""
    client: Any = redis
    found: set[Standing] = set()
    async for tenant in tenants(redis):
        versions: Mapping[bytes, bytes] = await client.hgetall(_key(tenant, "versions"))
        found |= {
            Standing(tenant, document.decode(), entry.decode().rpartition(":")[0])
            for document, entry in versions.items()
        }
    return found


async def tenants(redis: Redis) -> AsyncGenerator[str]:
    """Those that have documents."""
    client: Any = redis
    async for key in client.scan_iter(match=_PATTERN, count=_SCANNED):
        yield key.decode().partition("{")[2].partition("}")[0]


async def agree(redis: Redis, data_dir: Path) -> Sequence[str]:
    """Makes the restored stores agree. Which documents are lost thereby, by their URIs.

    Passages of which the registry knows nothing are removed; a document whose passages are not
    all there is forgotten, so that whoever adds it again is not told that it is unchanged.
    """
    client: Any = redis
    lost: list[str] = []
    async for tenant in tenants(redis):
        versions: Mapping[bytes, bytes] = await client.hgetall(_key(tenant, "versions"))
        removable: Sequence[bytes] = await client.zrange(_key(tenant, "removable"), 0, -1)
        counting = {
            document: entry.decode().rpartition(":")[0] for document, entry in versions.items()
        }
        known = [*counting.values(), *(each.decode() for each in removable)]
        there = _keep(_database(data_dir, tenant), known)
        for document, version in counting.items():
            if not _rows(version) <= there:
                lost.append(await _forget(client, tenant, document, version))
    return lost


async def _forget(client: Any, tenant: str, document: bytes, version: str) -> str:
    """The document's URI. Its passages, as far as they are there, go with the next upsert."""
    about: bytes | None = await client.hget(_key(tenant, "documents"), document)
    await client.hdel(_key(tenant, "documents"), document)
    await client.hdel(_key(tenant, "versions"), document)
    await client.zadd(_key(tenant, "removable"), {version: 0})
    await client.hincrby(_key(tenant, "knowledge"), "count", 1)
    return str(json.loads(about)["uri"]) if about else document.decode()


def _keep(database: Path, versions: Sequence[str]) -> set[str]:
    """Removes the rows of all other versions; those that are left."""
    if not database.exists():
        return set()
    known = {row for version in versions for row in _rows(version)}
    with closing(sqlite3.connect(database)) as connection:
        there = {str(row) for (row,) in connection.execute("SELECT id FROM points")}
        with connection:
            connection.executemany(
                "DELETE FROM points WHERE id = ?", [(row,) for row in there - known]
            )
    return there & known


def _rows(version: str) -> set[str]:
    """The keys of the rows of a version's passages."""
    id_, _, count = version.rpartition(":")
    points = (
        str(UUID(bytes=sha256(f"{id_}:{number}".encode()).digest()[:16]))
        for number in range(int(count))
    )
    return {
        base64.b64encode(pickle.dumps(each, protocol=_PICKLE_PROTOCOL)).decode() for each in points
    }


def _database(data_dir: Path, tenant: str) -> Path:
    return data_dir / VECTORS / "collection" / f"knowledge-{tenant}" / "storage.sqlite"


def _key(tenant: str, part: str) -> str:
    return f"memory:{{{tenant}}}:{part}"
