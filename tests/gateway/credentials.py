"""Tokens and certificates of a gateway under test."""

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric import ec

from meshkit.clock import SystemClock
from meshkit.identity import Role
from tier import gateway_access, identities, policy_contracts
from tier.access_tokens import AUDIENCE, ISSUER, SigningKey
from tier.authority import Authority
from tier.gateway_access import Guard, Issuer


class TokenIssuer:
    """Signs tokens, and has the file of its public key."""

    def __init__(self, jwks: Path, name: str = ISSUER) -> None:
        """The file is written anew."""
        self.name: Final = name
        self.jwks: Final = jwks
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.publish()

    @property
    def issuer(self) -> Issuer:
        """As the gateway knows it."""
        return replace(gateway_access.own_issuer(self.jwks), name=self.name)

    def issuer_with(self, **others: Any) -> Issuer:
        """The same, known otherwise in this."""
        return replace(self.issuer, **others)

    def publish(self) -> None:
        """Writes the public half of the key that signs now."""
        draft = self.jwks.with_suffix(".new")
        draft.write_text(json.dumps(SigningKey(self._key).jwks))
        draft.replace(self.jwks)

    def change_key(self) -> None:
        """Signs with another key from now on, which nobody knows yet."""
        self._key = ec.generate_private_key(ec.SECP256R1())

    def token(
        self,
        *,
        subject: str = "ann",
        tenant: str = "acme",
        role: Role = Role.USER,
        life: timedelta = timedelta(minutes=10),
    ) -> str:
        """A token as the mesh makes them."""
        return SigningKey(self._key).token(
            subject=subject, tenant=tenant, role=role, now=datetime.now(UTC), life=life
        )

    def signed(self, without: str = "", **claims: Any) -> str:
        """A token with other claims than usual, or without one of them."""
        usual: Mapping[str, Any] = {
            "iss": self.name,
            "aud": AUDIENCE,
            "sub": "ann",
            "tenant": "acme",
            "role": "user",
            "exp": int(time.time()) + 600,
        }
        said = {key: value for key, value in {**usual, **claims}.items() if key != without}
        return jwt.encode(said, self._key, "ES256", headers={"kid": SigningKey(self._key).key_id})


def authority(folder: Path, *, life_seconds: float = 3600.0) -> Authority:
    """A mesh's own, with a certificate for the gateway."""
    made = Authority.open(folder / "certificates", clock=SystemClock(), life_seconds=life_seconds)
    made.issue(identities.GATEWAY)
    return made


def guard(folder: Path, tls_port: int, issuers: tuple[Issuer, ...], **others: Any) -> Guard:
    """What a gateway asks of callers, by the policy that is shipped."""
    certificate = authority(folder).issue(identities.GATEWAY).certificate_secret
    return Guard(tls_port, certificate, policy_contracts.shipped(), issuers, **others)
