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
    seed: int


@dataclass(frozen=True, slots=True)
class Asked:
    """What came of it."""

    # From when calls were due to their answers, and to when they were begun; see
    # `Latencies.encode`.
    latencies: str
    late: str
    # By their reason; `REFUSED` where the governor did not allow a call, `NO_ANSWER` where the
    # gateway or the governor answered with an error, `BROKEN_OFF` where there was none.
    errors: dict[str, int] = field(default_factory=dict[str, int])


ASKING: Final = TypeAdapter(Asking)
ASKED: Final = TypeAdapter(Asked)
