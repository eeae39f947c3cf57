"""The first credentials of a mesh."""

import json
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jwt
import pytest

from meshkit.api_key import ApiKeyText
from meshkit.identity import Role
from meshkit.ids import RandomIds
from meshtest.clock import FakeClock
from services.coordinator.bootstrap_keys import BootstrapKeys
from tier import access_bootstrap
from tier.access_bootstrap import AccessFiles
from tier.access_tokens import SigningKey
from tier.failures import BadConfig


def _prepare(folder: Path, clock: FakeClock | None = None) -> AccessFiles:
    return access_bootstrap.prepare(folder, clock=clock or FakeClock(), ids=RandomIds())


def test_makes_all_files_for_their_owner_alone(tmp_path: Path) -> None:
    """Key, hashes, signing key and its public half are there, and nobody else reads them."""
    files = _prepare(tmp_path)

    made = [files.local_key, files.bootstrap_keys, files.signing_key, files.jwks]
    assert sorted(files.folder.iterdir()) == sorted(made)
    assert {stat.S_IMODE(each.stat().st_mode) for each in made} == {0o600}
    assert stat.S_IMODE(files.folder.stat().st_mode) == 0o700


def test_coordinators_get_the_hash_alone(tmp_path: Path) -> None:
    """What coordinators read fits the local key, and does not hold its secret."""
    files = _prepare(tmp_path)

    key = ApiKeyText.parse(files.local_key.read_text().strip())
    (known,) = BootstrapKeys.read(files.bootstrap_keys).keys
    assert (known.id, known.tenant, known.role) == (key.key_id, "default", Role.ADMIN)
    assert key.has_digest(bytes.fromhex(known.secret_sha256))
    assert known.ending == key.ending
    assert key.secret not in files.bootstrap_keys.read_text()


async def test_a_second_start_changes_nothing(tmp_path: Path) -> None:
    """The files stay as they are, so that who has a credential keeps it."""
    clock = FakeClock()
    files = _prepare(tmp_path, clock)
    before = {each: (each.read_bytes(), each.stat().st_ino) for each in files.folder.iterdir()}
    await clock.advance(3600)

    _prepare(tmp_path, clock)

    after = {each: (each.read_bytes(), each.stat().st_ino) for each in files.folder.iterdir()}
    assert after == before


def test_what_is_removed_is_made_anew(tmp_path: Path) -> None:
    """Without its key file a mesh gets another key, and forgets the old one."""
    files = _prepare(tmp_path)
    old = files.local_key.read_text()
    old_set = files.jwks.read_text()
    files.local_key.unlink()
    files.signing_key.unlink()

    _prepare(tmp_path)

    key = ApiKeyText.parse(files.local_key.read_text().strip())
    assert key.text != old.strip()
    assert [each.id for each in BootstrapKeys.read(files.bootstrap_keys).keys] == [key.key_id]
    assert files.jwks.read_text() != old_set


def test_hashes_that_are_damaged_are_written_again(tmp_path: Path) -> None:
    """All of them follows from the key itself."""
    files = _prepare(tmp_path)
    files.bootstrap_keys.write_text("{")

    _prepare(tmp_path)

    key = ApiKeyText.parse(files.local_key.read_text().strip())
    assert [each.id for each in BootstrapKeys.read(files.bootstrap_keys).keys] == [key.key_id]


def test_refuses_a_key_file_with_something_else(tmp_path: Path) -> None:
    """A credential is not overwritten: the owner is told what to do."""
    files = _prepare(tmp_path)
    files.local_key.write_text("hello\n")

    with pytest.raises(BadConfig) as raised:
        _prepare(tmp_path)

    assert str(raised.value) == (
        f"{files.local_key} holds no API key: remove it, and a start makes another."
    )


def test_refuses_a_signing_key_of_another_kind(tmp_path: Path) -> None:
    """The same holds for the key that signs tokens."""
    files = _prepare(tmp_path)
    files.signing_key.write_text("hello\n")

    with pytest.raises(BadConfig) as raised:
        _prepare(tmp_path)

    assert str(raised.value) == (
        f"{files.signing_key} holds no key that signs tokens: remove it, and a start makes another."
    )


def test_tokens_fit_the_key_set(tmp_path: Path) -> None:
    """A token's claims are read with nothing but the public key set, found by its `kid`."""
    files = _prepare(tmp_path)
    now = datetime.now(UTC).replace(microsecond=0)
    token = SigningKey.read(files.signing_key).token(
        subject="ann", tenant="acme", role=Role.OPERATOR, now=now, life=timedelta(minutes=5)
    )

    known = jwt.PyJWKSet.from_dict(json.loads(files.jwks.read_text()))
    header = jwt.get_unverified_header(token)
    claims = jwt.decode(
        token,
        known[header["kid"]],
        algorithms=["ES256"],
        audience="agentmesh",
        issuer="agentmesh",
    )
    assert header["alg"] == "ES256"
    assert claims == {
        "iss": "agentmesh",
        "aud": "agentmesh",
        "sub": "ann",
        "tenant": "acme",
        "role": "operator",
        "iat": int(now.timestamp()),
        "exp": int((now + timedelta(minutes=5)).timestamp()),
    }


def test_another_key_signs_nothing_that_counts(tmp_path: Path) -> None:
    """A token of another mesh does not fit this one's key set."""
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    ours.mkdir()
    theirs.mkdir()
    token = SigningKey.read(_prepare(theirs).signing_key).token(
        subject="ann",
        tenant="acme",
        role=Role.ADMIN,
        now=datetime.now(UTC),
        life=timedelta(minutes=5),
    )
    (known,) = jwt.PyJWKSet.from_dict(json.loads(_prepare(ours).jwks.read_text())).keys

    with pytest.raises(jwt.InvalidSignatureError):
        jwt.decode(token, known, algorithms=["ES256"], audience="agentmesh")
