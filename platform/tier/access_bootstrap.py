"""The first credentials of a mesh: a key for its owner, and the key that signs tokens.

    access/local.key            an admin's API key: the command sends it by itself
    access/bootstrap_keys.json  its hash, for coordinators (`coordinator.bootstrap_keys`)
    access/signing.pem          signs the tokens of `agentmesh key token` (ES256)
    access/jwks.json            its public half, by which gateways check them

All are made at a mesh's first start, and stay. Who removes local.key or signing.pem gets
another at the next start; what the old one signed, or the old key, is refused from then on.
"""

import json
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from meshkit.api_key import ApiKeyText, MalformedApiKey
from meshkit.clock import Clock
from meshkit.config import ConfigError
from meshkit.identity import Role
from meshkit.ids import Ids
from services.coordinator.bootstrap_keys import BootstrapKey, BootstrapKeys
from tier.access_files import TENANT, AccessFiles
from tier.access_tokens import SigningKey
from tier.certificate_files import write_private
from tier.failures import BadConfig

_DISPLAY_NAME: Final = "local administrator"


def prepare(
    data_dir: Path,
    *,
    clock: Clock,
    ids: Ids,
    random_bytes: Callable[[int], bytes] = secrets.token_bytes,
) -> AccessFiles:
    """Makes what is missing; only the owner of the files may read them.

    Raises:
        BadConfig: A file holds something else than it should.
        OSError: The folder cannot be written.
    """
    files = AccessFiles.of(data_dir)
    files.folder.mkdir(exist_ok=True, mode=0o700)
    key = _local_key(files.local_key, ids, random_bytes)
    _write(files.bootstrap_keys, _hashes(key, files.bootstrap_keys, clock))
    signing_key = _signing_key(files.signing_key)
    _write(files.jwks, json.dumps(signing_key.jwks, indent=2).encode() + b"\n")
    return files


def _local_key(path: Path, ids: Ids, random_bytes: Callable[[int], bytes]) -> ApiKeyText:
    if not path.exists():
        write_private(path, f"{ApiKeyText.make(ids.new(), random_bytes).text}\n".encode())
    try:
        return ApiKeyText.parse(path.read_text("utf-8", "replace").strip())
    except MalformedApiKey:
        raise BadConfig(f"{path} holds no API key: remove it, and a start makes another.") from None


def _hashes(key: ApiKeyText, path: Path, clock: Clock) -> bytes:
    try:
        made = BootstrapKeys.read(path).made_at(key.key_id)
    except ConfigError:
        # Not there, or not whole: all but the time follows from the key.
        made = None
    hashed = BootstrapKey(
        id=key.key_id,
        tenant=TENANT,
        display_name=_DISPLAY_NAME,
        role=Role.ADMIN,
        secret_sha256=key.digest.hex(),
        ending=key.ending,
        create_time=made or clock.now(),
    )
    return BootstrapKeys(keys=(hashed,)).model_dump_json(indent=2).encode() + b"\n"


def _signing_key(path: Path) -> SigningKey:
    if not path.exists():
        made = ec.generate_private_key(ec.SECP256R1())
        pem = made.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        write_private(path, pem)
    try:
        return SigningKey.read(path)
    except ValueError:
        raise BadConfig(
            f"{path} holds no key that signs tokens: remove it, and a start makes another."
        ) from None


def _write(path: Path, content: bytes) -> None:
    # What did not change is not written: who follows it would read it again.
    if not path.exists() or path.read_bytes() != content:
        write_private(path, content)
