"""Where a gateway is, and what it is shown."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class GatewayAddress:
    """All that it takes to call a mesh."""

    # `host:port`.
    place: str
    tls: bool = False
    # Certificates that the gateway's is checked by, as PEM; the machine's where None.
    authority: bytes | None = None
    # An API key or a token; empty where none is shown.
    credential: str = field(default="", repr=False)
