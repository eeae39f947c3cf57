"""API keys: who may make and end them, and what becomes of them."""

import contextlib
import hashlib
import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from google.protobuf.timestamp_pb2 import Timestamp

from agentmesh.access.v1.access_service_pb2 import ApiKey
from agentmesh.access.v1.stored_api_key_pb2 import StoredApiKey
from meshkit import names
from meshkit.api_key import ApiKeyText
from meshkit.clock import Clock
from meshkit.errors import (
    ApiKeyNotFound,
    Conflict,
    DependencyUnavailable,
    InvalidField,
    RequestIdReused,
)
from meshkit.ids import Ids
from meshkit.log import Log
from services.coordinator.key_powers import Maker, role_name

# Of a tenant.
MAX_IN_FORCE: Final = 1000
MAX_KEPT: Final = 10_000
# So long one can see what became of a key that ended.
KEPT_AFTER_END: Final = timedelta(days=30)
_TIDY_EVERY_SECONDS: Final = 6 * 3600.0
# Nothing but a second revocation comes between the reading and the writing of a key.
_TURNS: Final = 3


@dataclass(frozen=True, slots=True)
class Stored:
    """A key, and where it stands in the store."""

    record: StoredApiKey
    # The broker's sequence, which the next change must name; 0 before the first.
    sequence: int = 0


class Store(Protocol):
    """Keeps keys, for all coordinators."""

    async def read(self, tenant: str, key_id: str) -> Stored | None: ...

    async def write(self, tenant: str, key_id: str, record: StoredApiKey, *, after: int) -> None:
        """Replaces what stands at `after`; Conflict if that is not there any more."""
        ...

    def list(self, tenant: str) -> AsyncIterator[StoredApiKey]:
        """All of a tenant's, in no order."""
        ...

    async def uses(self, tenant: str) -> Mapping[str, datetime]:
        """When each key of the tenant was last used, by id."""
        ...

    async def remove(self, tenant: str, key_id: str) -> None:
        """Removes all there is about a key."""
        ...


class Ring(Protocol):
    """The keys of all tenants, as this process knows them."""

    def all(self) -> Sequence[StoredApiKey]: ...

    async def catch_up(self) -> None:
        """Returns when it has what is stored now; DependencyUnavailable where that takes long."""
        ...

    def drop(self, key_id: str) -> None:
        """Forgets a key that was removed."""
        ...


class ApiKeys:
    """The rules of AccessService."""

    def __init__(
        self,
        *,
        store: Store,
        ring: Ring,
        given: Mapping[str, StoredApiKey],
        clock: Clock,
        ids: Ids,
        log: Log,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        """`given`: the keys that the mesh was started with, by id; they are in no store."""
        self._store: Final = store
        self._ring: Final = ring
        self._given: Final = given
        self._clock: Final = clock
        self._ids: Final = ids
        self._log: Final = log
        self._random_bytes: Final = random_bytes

    async def create(
        self, maker: Maker, tenant: str, requested: ApiKey, request_id: str
    ) -> tuple[ApiKey, str]:
        """Makes a key, once for each `request_id`; the key and its text, empty for a repeat.

        Raises:
            Forbidden: The maker cannot give so much.
            InvalidField: It would end before it begins, or the tenant has too many keys.
            RequestIdReused: `request_id` made another key.
        """
        maker.require_tenant(tenant)
        maker.require_powers(requested)
        content = requested.SerializeToString(deterministic=True)
        digest = hashlib.sha256(content).digest()
        key_id = self._ids.stable("api key", tenant, request_id) if request_id else self._ids.new()
        if request_id:
            existing = await self._store.read(tenant, key_id)
            if existing is not None:
                return self._repeat(existing.record, digest, request_id)
        now = self._clock.now()
        if requested.HasField("expire_time") and _time(requested.expire_time) <= now:
            raise InvalidField("api_key.expire_time", f"must be later than now, {now:%FT%TZ}")
        await self._require_room(tenant, now)
        text = ApiKeyText.make(key_id, self._random_bytes)
        key = ApiKey()
        key.CopyFrom(requested)
        key.name = names.API_KEY.format(tenant=tenant, api_key=key_id)
        key.create_time.FromDatetime(now)
        key.creator = maker.caller
        key.ending = text.ending
        record = StoredApiKey(api_key=key, secret_digest=text.digest, request_digest=digest)
        try:
            await self._store.write(tenant, key_id, record, after=0)
        except Conflict:
            existing = await self._store.read(tenant, key_id)
            if existing is None:
                raise
            return self._repeat(existing.record, digest, request_id)
        self._log.info("key.created", name=key.name, by=maker.caller, role=role_name(key.role))
        await self._put_in_force()
        return self._shown(record, None), text.text

    async def list(self, maker: Maker, tenant: str) -> Sequence[ApiKey]:
        """All keys of a tenant in order of their ids; Forbidden where the maker may not know."""
        maker.require_tenant(tenant)
        records = {
            each.api_key.name: each
            for each in self._given.values()
            if each.api_key.name.startswith(f"tenants/{tenant}/")
        }
        async for each in self._store.list(tenant):
            records[each.api_key.name] = each
        uses = await self._store.uses(tenant)
        return [self._shown(records[name], uses.get(key_id_of(name))) for name in sorted(records)]

    async def revoke(self, maker: Maker, tenant: str, key_id: str) -> ApiKey:
        """Ends a key; one that is revoked stays as it is.

        Raises:
            Forbidden: The key is not the maker's to end.
            ApiKeyNotFound: There is no such key.
        """
        maker.require_tenant(tenant)
        name = names.API_KEY.format(tenant=tenant, api_key=key_id)
        for _ in range(_TURNS):
            stored = await self._store.read(tenant, key_id) or self._of_given(name, key_id)
            if stored is None:
                raise ApiKeyNotFound(
                    f"There is no API key {name!r}. `agentmesh key list` shows which exist."
                )
            maker.require_role(stored.record.api_key.role, "revoke this key")
            if stored.record.api_key.HasField("revoke_time"):
                break
            revoked = StoredApiKey()
            revoked.CopyFrom(stored.record)
            revoked.api_key.revoke_time.FromDatetime(self._clock.now())
            revoked.api_key.revoker = maker.caller
            try:
                await self._store.write(tenant, key_id, revoked, after=stored.sequence)
            except Conflict:
                continue
            self._log.info("key.revoked", name=name, by=maker.caller)
            await self._put_in_force()
            return self._shown(revoked, None)
        else:
            raise Conflict(f"The API key {name!r} is being changed by others. Try again.")
        return self._shown(stored.record, None)

    async def tidy(self) -> None:
        """Removes keys that ended long ago, for ever; every coordinator does."""
        while True:
            await self._clock.sleep(_TIDY_EVERY_SECONDS)
            await self.remove_ended()

    async def remove_ended(self) -> None:
        """Removes keys that ended long ago."""
        before = self._clock.now() - KEPT_AFTER_END
        for record in self._ring.all():
            ended = end_of(record.api_key)
            key_id = key_id_of(record.api_key.name)
            if ended is not None and ended <= before and key_id not in self._given:
                (tenant, _) = names.API_KEY.parse(record.api_key.name, field="name")
                await self._store.remove(tenant, key_id)
                self._ring.drop(key_id)

    async def _require_room(self, tenant: str, now: datetime) -> None:
        kept = in_force = 0
        async for each in self._store.list(tenant):
            kept += 1
            ended = end_of(each.api_key)
            in_force += ended is None or ended > now
        if in_force >= MAX_IN_FORCE:
            raise InvalidField(
                "parent",
                f"must be a tenant with fewer than {MAX_IN_FORCE:,} keys in force. Revoke some",
            )
        if kept >= MAX_KEPT:
            raise InvalidField(
                "parent",
                f"must be a tenant with fewer than {MAX_KEPT:,} keys, ended ones included:"
                f" those are kept for {KEPT_AFTER_END.days} days",
            )

    async def _put_in_force(self) -> None:
        """What was stored holds here when the call ends, if not for a fault; soon elsewhere."""
        with contextlib.suppress(DependencyUnavailable):
            await self._ring.catch_up()

    def _of_given(self, name: str, key_id: str) -> Stored | None:
        record = self._given.get(key_id)
        return Stored(record) if record is not None and record.api_key.name == name else None

    def _repeat(self, existing: StoredApiKey, digest: bytes, request_id: str) -> tuple[ApiKey, str]:
        if existing.request_digest != digest:
            raise RequestIdReused(
                f"request_id {request_id!r} made {existing.api_key.name!r} with other content."
            )
        return self._shown(existing, None), ""

    def _shown(self, record: StoredApiKey, used: datetime | None) -> ApiKey:
        """The key as callers see it."""
        key = ApiKey()
        key.CopyFrom(record.api_key)
        if used is not None:
            key.last_use_time.FromDatetime(used)
        key.state = state_of(key, self._clock.now())
        return key


def key_id_of(name: str) -> str:
    """The id in a key's name."""
    return name.rpartition("/")[2]


def end_of(key: ApiKey) -> datetime | None:
    """When the key ended or will end; None for one that does not end by itself."""
    ends = [
        _time(time)
        for field, time in (("revoke_time", key.revoke_time), ("expire_time", key.expire_time))
        if key.HasField(field)
    ]
    return min(ends, default=None)


def state_of(key: ApiKey, now: datetime) -> ApiKey.State:
    """Whether the key is in force; at its `expire_time` it is no more."""
    if key.HasField("revoke_time"):
        return ApiKey.STATE_REVOKED
    if key.HasField("expire_time") and _time(key.expire_time) <= now:
        return ApiKey.STATE_EXPIRED
    return ApiKey.STATE_ACTIVE


def _time(stamp: Timestamp) -> datetime:
    return stamp.ToDatetime(tzinfo=UTC)
