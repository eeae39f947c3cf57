"""How a queue stands: what the broker says of its consumer."""

from dataclasses import dataclass
from typing import NamedTuple


class ConsumerKey(NamedTuple):
    """Which consumer it is."""

    stream: str
    durable: str


@dataclass(frozen=True, slots=True)
class Standing:
    """A consumer, by stream sequences."""

    # The last message that was handed out.
    delivered: int
    # Everything up to here is acknowledged.
    acknowledged: int
    # How many between the two are not.
    unacknowledged: int
