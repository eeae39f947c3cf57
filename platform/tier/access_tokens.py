"""Tokens: who calls, for a short time, signed by the mesh's own key (JWT, ES256)."""

import base64
import hashlib
import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from meshkit.identity import Role

# What the gateway asks of a token; see the provider in mesh/envoy/gateway.yaml.
ISSUER: Final = "agentmesh"
AUDIENCE: Final = "agentmesh"
_ALGORITHM: Final = "ES256"


class SigningKey:
    """A private key on the curve P-256."""

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key: Final = key

    @classmethod
    def read(cls, path: Path) -> "SigningKey":
        """The key in a PEM file. ValueError for anything else, OSError where it is not there."""
        try:
            key = serialization.load_pem_private_key(path.read_bytes(), None)
        except TypeError as error:
            raise ValueError("The key has a password.") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != "secp256r1":
            raise ValueError("The key is not one of the curve P-256.")
        return cls(key)

    @property
    def jwks(self) -> Mapping[str, Any]:
        """The public half as a JSON Web Key Set."""
        return {"keys": [{**self._public, "kid": self.key_id, "alg": _ALGORITHM, "use": "sig"}]}

    @property
    def key_id(self) -> str:
        """The thumbprint of the public half (RFC 7638)."""
        canonical = json.dumps(self._public, sort_keys=True, separators=(",", ":"))
        return _base64url(hashlib.sha256(canonical.encode()).digest())

    def token(
        self, *, subject: str, tenant: str, role: Role, now: datetime, life: timedelta
    ) -> str:
        """A token for `user:<subject>`, good from now on until `life` has passed."""
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": subject,
            "tenant": tenant,
            "role": str(role),
            "iat": now,
            "exp": now + life,
        }
        return jwt.encode(claims, self._key, _ALGORITHM, headers={"kid": self.key_id})

    @property
    def _public(self) -> Mapping[str, str]:
        point = self._key.public_key().public_numbers()
        return {
            "crv": "P-256",
            "kty": "EC",
            "x": _base64url(point.x.to_bytes(32, "big")),
            "y": _base64url(point.y.to_bytes(32, "big")),
        }


def _base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")
