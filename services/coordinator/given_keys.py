"""The keys that a mesh is started with, as coordinators have keys."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from agentmesh.access.v1.access_service_pb2 import ApiKey
from agentmesh.access.v1.stored_api_key_pb2 import StoredApiKey
from meshkit import names
from services.coordinator.bootstrap_keys import BootstrapKey, BootstrapKeys
from services.coordinator.key_powers import role_number

_MESH: Final = "mesh"


def given_keys(path: Path | None) -> Mapping[str, StoredApiKey]:
    """Those in the file, by id, none without one; ConfigError where it cannot be read."""
    if path is None:
        return {}
    return {each.id: _record(each) for each in BootstrapKeys.read(path).keys}


def _record(given: BootstrapKey) -> StoredApiKey:
    key = ApiKey(
        name=names.API_KEY.format(tenant=given.tenant, api_key=given.id),
        display_name=given.display_name,
        role=role_number(given.role),
        creator=_MESH,
        ending=given.ending,
    )
    key.create_time.FromDatetime(given.create_time)
    return StoredApiKey(api_key=key, secret_digest=bytes.fromhex(given.secret_sha256))
