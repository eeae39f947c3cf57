"""How a queue stands: what the broker says of its consumer."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Standing:
    """A consumer, by stream sequences."""

    # The last message that was handed out.
    delivered: int
    # Everything up to here is acknowledged.
    acknowledged: int
    # How many between the two are not.
    unacknowledged: int
