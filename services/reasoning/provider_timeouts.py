"""How long a call of a provider may take."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ProviderTimeouts:
    """All in seconds."""

    # Until there is a connection.
    connect_seconds: float
    # Until the first byte of an answer, and between any two.
    silence_seconds: float
    # The whole call.
    whole_seconds: float
