"""What a webhook is sent about an alert, signed so that its receiver can tell who sent it.

Headers and signature are those of Standard Webhooks (standardwebhooks.com, version 1.0.0), for
which there are libraries in most languages. The signature covers id, time and body: a receiver
that refuses old times and ids that it knows cannot be sent the same twice by somebody else.
"""

import base64
import binascii
import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, Self

from agentmesh.governor.v1 import cost_governor_service_pb2 as pb

# What every secret begins with, so that it is known for one.
PREFIX: Final = "whsec_"
_SECRET: Final = re.compile(PREFIX + r"([A-Za-z0-9+/]+={0,2})")
_LEAST_BYTES: Final = 24
_MOST_BYTES: Final = 64


class Secret:
    """What a webhook's sender and its receiver share. It shows itself nowhere."""

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        """Use `parse`."""
        self._key: Final = key

    @classmethod
    def parse(cls, text: str) -> Self:
        """The secret that is written like `whsec_` and the Base64 of 24 to 64 bytes.

        Raises:
            ValueError: It is written otherwise. The message does not repeat it.
        """
        match = _SECRET.fullmatch(text.strip())
        try:
            key = base64.b64decode(match[1], validate=True) if match else b""
        except binascii.Error:
            key = b""
        if not _LEAST_BYTES <= len(key) <= _MOST_BYTES:
            raise ValueError(
                f"must be whsec_ and then the Base64 of {_LEAST_BYTES} to {_MOST_BYTES} bytes"
            )
        return cls(key)

    def sign(self, message_id: str, timestamp: str, body: bytes) -> str:
        """The signature of a message."""
        signed = f"{message_id}.{timestamp}.".encode() + body
        return "v1," + base64.b64encode(hmac.digest(self._key, signed, hashlib.sha256)).decode()


def body(alert: pb.WatchAlertsResponse) -> bytes:
    """The alert in JSON."""
    told = alert.time.ToDatetime(tzinfo=UTC).isoformat(timespec="milliseconds")
    return json.dumps(
        {
            "type": f"budget.{alert.kind.lower()}",
            "timestamp": told.replace("+00:00", "Z"),
            "data": {
                "id": alert.id,
                "sequence": alert.sequence,
                "kind": alert.kind,
                "tenant": alert.tenant,
                "budget": alert.budget,
                "text": alert.text,
                "spent_micros": alert.spent_micros,
                "limit_micros": alert.limit_micros,
            },
        },
        ensure_ascii=False,
    ).encode()


def headers(message_id: str, now: datetime, content: bytes, secret: Secret) -> Mapping[str, str]:
    """What goes with the body of a message that is sent now."""
    timestamp = str(int(now.timestamp()))
    return {
        "content-type": "application/json",
        "user-agent": "agentmesh-governor",
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": secret.sign(message_id, timestamp, content),
    }
