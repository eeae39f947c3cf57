"""What the client process is told to ask, and what it says came of it; both as JSON."""

from dataclasses import dataclass, field
from typing import Final

from pydantic import TypeAdapter


@dataclass(frozen=True, slots=True)
class Asking:
    """What to ask, and for how long."""

    # The gateway's `host:port`.
    address: str
    # Calls a second.
    rate: float
    seconds: float
    # Asked before, and not counted.
    warm_up_seconds: float
    # Of the distances between calls; the keys of calls begin with it.
    seed: int
    # Whether calls travel together on streams, as reasoning makes them; else each by itself.
    streamed: bool


@dataclass(frozen=True, slots=True)
class Asked:
    """What came of it."""

    # From when calls were due to their answers, and to when they were begun; see
    # `Latencies.encode`.
    latencies: str
    late: str
    # By their reason; `REFUSED` where the governor did not allow a call, and what its client says
    # of a call without an answer.
    errors: dict[str, int] = field(default_factory=dict[str, int])


ASKING: Final = TypeAdapter(Asking)
ASKED: Final = TypeAdapter(Asked)
