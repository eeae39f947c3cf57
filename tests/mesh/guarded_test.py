"""Staging as it is started without a word: nobody comes in without credentials."""

import asyncio
import http.client
import json
import os
import ssl
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import pytest

from tests.mesh.small_mesh import children, listens
from tier import api
from tier.api import BadConfig, MeshOptions, MeshState, Tier

_TASK = json.dumps({"task": {"input": {"text": "What is 6 * 7?"}}}).encode()
_TASKS = "/v1/tenants/default/tasks"


@pytest.fixture
def options(tmp_path: Path) -> MeshOptions:
    """Staging on free ports."""
    return MeshOptions(tier=Tier.STAGING, data_dir=tmp_path / "data", port=0)


@dataclass
class _Guarded:
    """A mesh that runs."""

    options: MeshOptions
    state: MeshState


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Guarded]:
    """Staging in a folder that others may enter."""
    options = MeshOptions(
        tier=Tier.STAGING, data_dir=tmp_path_factory.mktemp("mesh") / "data", port=0
    )
    options.data_dir.mkdir(mode=0o755)
    yield _Guarded(options, api.start_detached(options, lambda _: None))
    api.stop_detached(options.data_dir, lambda _: None)


def _key(options: MeshOptions) -> str:
    return (options.data_dir / "access/local.key").read_text().strip()


async def _status(connection: http.client.HTTPConnection, key: str | None) -> int:
    def exchange() -> int:
        headers = {"content-type": "application/json"}
        connection.request(
            "POST", _TASKS, _TASK, {**headers, **({"x-api-key": key} if key else {})}
        )
        answer = connection.getresponse()
        answer.read()
        connection.close()
        return answer.status

    return await asyncio.to_thread(exchange)


def _plain(state: MeshState) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(state.address, timeout=30)


def _secure(options: MeshOptions, address: str) -> http.client.HTTPConnection:
    trusted = options.data_dir / "certificates/authority/certificate.pem"
    context = ssl.create_default_context(cafile=str(trusted))
    return http.client.HTTPSConnection(address, timeout=30, context=context)


async def test_it_asks_for_credentials_on_both_ports(guarded: _Guarded) -> None:
    """The owner's key opens the plain port and the one with TLS; without it neither opens."""
    options, state = guarded.options, guarded.state
    assert state.tls_address is not None
    for port in (_plain(state), _secure(options, state.tls_address)):
        assert await _status(port, None) == 401
        assert await _status(port, "amk_" + "a" * 26 + "_" + "b" * 43) == 401
        assert await _status(port, _key(options)) == 200
    assert not any("no authentication" in note for note in state.notes)
    for name in ("access/local.key", "access/signing.pem", "certificates/gateway/current/key.pem"):
        assert stat.S_IMODE((options.data_dir / name).stat().st_mode) == 0o600


async def test_secrets_stay_where_they_belong(guarded: _Guarded) -> None:
    """In a folder that others may enter, nothing is open to them; a mesh's key and passwords are
    in their own files alone, and in no process's arguments.
    """
    options, state = guarded.options, guarded.state
    assert await _status(_plain(state), _key(options)) == 200
    assert await _status(_plain(state), _key(options)[:-1] + "~") == 401
    found = [each for each in options.data_dir.rglob("*") if not each.is_symlink()]
    tops = options.data_dir.iterdir()
    assert [each for each in tops if stat.S_IMODE(each.stat().st_mode) & 0o077] == []
    secret = {_key(options)[-43:]: {"access/local.key"}}
    if (options.data_dir / "postgres/password").exists():
        password = (options.data_dir / "postgres/password").read_text()
        secret[password] = {"postgres/password", "postgres/pgpass"}
    for text, places in secret.items():
        holders = {str(each.relative_to(options.data_dir)) for each in found if _holds(each, text)}
        assert holders == places
        for pid in children(state):
            assert text not in " ".join(psutil.Process(pid).cmdline())


def _holds(path: Path, text: str) -> bool:
    try:
        return path.is_file() and text.encode() in path.read_bytes()
    except FileNotFoundError:
        return False


async def test_it_listens_where_it_is_told_to_with_tls_alone(guarded: _Guarded) -> None:
    """Other machines reach the port with TLS, whose certificate has this machine's names.

    The key that was made at the first start holds after the next.
    """
    key = _key(guarded.options)
    api.stop_detached(guarded.options.data_dir, lambda _: None)
    options = replace(guarded.options, listen="0.0.0.0")
    guarded.state = state = api.start_detached(options, lambda _: None)
    assert _key(options) == key
    assert await _status(_plain(state), key) == 200
    assert state.tls_address is not None
    assert state.tls_address.startswith("0.0.0.0:")
    assert listens(state, "gateway") == {"127.0.0.1", "0.0.0.0"}
    port = state.tls_address.rpartition(":")[2]
    addresses = [
        each.address
        for found in psutil.net_if_addrs().values()
        for each in found
        if each.family.name == "AF_INET"
    ]
    for address in addresses:
        secure = _secure(options, f"{address}:{port}")
        assert await _status(secure, None) == 401
        assert await _status(secure, key) == 200
    others = [each.name for each in state.processes if each.pid != os.getpid()]
    others.remove("gateway")
    assert {address for name in others for address in listens(state, name)} == {"127.0.0.1"}


async def test_keys_of_an_issuer_that_are_not_there_are_told(
    options: MeshOptions, tmp_path: Path
) -> None:
    """A configuration that names no file starts nothing."""
    config = tmp_path / "mesh.yaml"
    issuer = {
        "name": "https://id.example",
        "audiences": ["mesh"],
        "jwks": str(tmp_path / "no.json"),
    }
    config.write_text(json.dumps({"gateway": {"issuers": [issuer]}}))
    with pytest.raises(BadConfig) as caught:
        api.start_detached(replace(options, config=config), lambda _: None)
    assert str(caught.value) == (
        f"gateway.issuers: {tmp_path / 'no.json'} is no file: give the keys of"
        " https://id.example as a JSON Web Key Set."
    )
