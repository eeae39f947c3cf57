"""Who may come into the mesh by API key: made of its parts, as main.py has them."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from meshkit.service import Resources
from services.coordinator.access_service import AccessServicer
from services.coordinator.api_key_store_jetstream import JetStreamApiKeyStore
from services.coordinator.api_keys import ApiKeys
from services.coordinator.authorization_service import AuthorizationServicerOfKeys
from services.coordinator.given_keys import given_keys
from services.coordinator.key_check import KeyCheck
from services.coordinator.key_powers import Makers
from services.coordinator.key_ring import KeyRing
from services.coordinator.key_uses import KeyUses
from services.coordinator.settings import CoordinatorSettings


@dataclass(frozen=True, slots=True)
class Access:
    """What is served of it, and what runs beside."""

    keys: AccessServicer
    authorization: AuthorizationServicerOfKeys
    background: Sequence[Callable[[], Awaitable[None]]]

    @classmethod
    async def build(cls, resources: Resources, settings: CoordinatorSettings) -> "Access":
        """Prepares the store of keys; ConfigError where the file of first keys is no good."""
        given = given_keys(settings.bootstrap_keys)
        store = JetStreamApiKeyStore(resources.bus)
        await store.prepare()
        ring = KeyRing(store, given, resources.clock)
        uses = KeyUses(store, ring, resources.clock)
        keys = ApiKeys(
            store=store,
            ring=ring,
            given=given,
            clock=resources.clock,
            ids=resources.ids,
            log=resources.log,
        )
        return cls(
            keys=AccessServicer(keys, Makers(ring)),  # pyright: ignore[reportAbstractUsage]
            authorization=AuthorizationServicerOfKeys(KeyCheck(ring, uses, resources.clock)),
            background=(ring.follow, uses.write, keys.tidy),
        )
