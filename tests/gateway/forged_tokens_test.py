"""Nobody makes a token but its issuer."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.gateway.credentials import TokenIssuer
from tests.gateway.guarded import Guarded
from tier.access_tokens import SigningKey

pytest_plugins = ["tests.gateway.shared_gateways"]
pytestmark = pytest.mark.asyncio(loop_scope="session")

_TASK = "/v1/tenants/acme/tasks/t1"


def _encoded(value: Any) -> str:
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(text).decode().rstrip("=")


def _claims(issuer: TokenIssuer) -> dict[str, Any]:
    whole = {"iss": issuer.name, "aud": "agentmesh", "sub": "root", "tenant": "acme"}
    return {**whole, "role": "admin", "exp": int(time.time()) + 600}


def _forged(issuer: TokenIssuer) -> Iterator[tuple[str, str]]:
    """Tokens that say the right things, by what is wrong with them."""
    public = json.loads(issuer.jwks.read_text())["keys"][0]
    kid = public["kid"]
    claims = _claims(issuer)
    for name in ("none", "None", "NONE", ""):
        head = _encoded({"alg": name, "typ": "JWT", "kid": kid})
        yield f"alg {name!r}", f"{head}.{_encoded(claims)}."
        yield f"alg {name!r}, signed", f"{head}.{_encoded(claims)}.{_encoded(bytes(64))}"
    # What everybody knows of the key, taken for a secret.
    point = jwt.PyJWK(public).key
    for name, secret in {
        "pem": point.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        ),
        "x": public["x"].encode(),
        "jwks": issuer.jwks.read_bytes(),
        "nothing": b"",
    }.items():
        signed = f"{_encoded({'alg': 'HS256', 'kid': kid})}.{_encoded(claims)}"
        signature = hmac.digest(secret, signed.encode(), hashlib.sha256)
        yield f"HS256 by {name}", f"{signed}.{_encoded(signature)}"
    mine = ec.generate_private_key(ec.SECP256R1())
    mine_public = SigningKey(mine).jwks["keys"][0]
    for name, header in {
        "its kid": {"kid": kid},
        "no kid": {},
        "a path for a kid": {"kid": "../../../../dev/null"},
        "its own key inside": {"kid": kid, "jwk": mine_public},
        "a place of its key": {"kid": kid, "jku": "http://127.0.0.1:1/jwks.json"},
    }.items():
        yield f"another key, {name}", jwt.encode(claims, mine, "ES256", headers=header)
    head, _, signature = issuer.signed().split(".")
    yield "other claims than were signed", f"{head}.{_encoded(claims)}.{signature}"
    # An old error of verifiers: zeros fit every key.
    yield "zeros", f"{head}.{_encoded(claims)}.{_encoded(bytes(64))}"


async def test_forged_tokens_open_nothing(mesh: Guarded) -> None:
    """Whatever algorithm, key or signature a token names, only what its issuer signed counts; the
    gateway fetches no keys either.
    """
    said: dict[str, int] = {}
    for name, token in _forged(mesh.issuer):
        headers = {"authorization": f"Bearer {token}"}
        answer = await mesh.front.gateway.http("GET", _TASK, headers=headers)
        said[name] = answer.status
    assert set(said.values()) == {401}, said
    assert mesh.front.coordinator.calls == {}
    good = {"authorization": f"Bearer {mesh.issuer.signed(role='admin')}"}
    assert (await mesh.front.gateway.http("GET", _TASK, headers=good)).status == 200
