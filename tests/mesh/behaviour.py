"""How an instance of a service behaves, as data."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Final, Literal, Self

# The trailing metadata by which an instance says its name.
INSTANCE_KEY: Final = "instance"
# Of the events of every task.
LAST_SEQUENCE: Final = 20

# What an instance answers where it is told to fail.
Failure = Literal["UNAVAILABLE", "INTERNAL", "DEADLINE_EXCEEDED", "NOT_FOUND"]


@dataclass(frozen=True, slots=True)
class Behaviour:
    """By default every call is answered at once."""

    # How many of the calls fail, from 0 to 1.
    failing: float = 0.0
    failure: Failure = "UNAVAILABLE"
    # Before every answer.
    delay_seconds: float = 0.0
    # Nothing is answered while this is in force, and of streams the first half alone.
    held: bool = False

    @classmethod
    def read(cls, line: str | bytes) -> Self:
        """From the line that `line` made."""
        return cls(**json.loads(line))

    @property
    def line(self) -> bytes:
        """For a pipe."""
        return json.dumps(asdict(self)).encode() + b"\n"


@dataclass(frozen=True, slots=True)
class Counted:
    """What an instance has seen since it was started."""

    # Calls by method, those that failed included.
    calls: Mapping[str, int] = field(default_factory=dict[str, int])

    @classmethod
    def read(cls, line: str | bytes) -> Self:
        """From the line that `line` made."""
        return cls(**json.loads(line))

    @property
    def line(self) -> bytes:
        """For a pipe."""
        return json.dumps(asdict(self)).encode() + b"\n"
