"""What can be told of a start while it goes on."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Phase(StrEnum):
    """What becomes of a part of the mesh."""

    STARTING = "starting"
    # It has been starting for a while, and is given more time.
    WAITING = "waiting"
    READY = "ready"
    DIED = "died"
    RESTARTING = "restarting"
    FAILED = "failed"
    STOPPING = "stopping"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Event:
    """Something happened to a part of the mesh."""

    # `nats`, `redis`, `gateway`, `services` (of the prototype), the name of a
    # service's process (of staging), or `mesh` for the whole.
    part: str
    phase: Phase
    # Since the start, or the stop, began.
    seconds: float
    # One line for people.
    text: str

    def to_json(self) -> dict[str, object]:
        """The event as plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Event":
        """What `to_json` was called on."""
        return cls(values["part"], Phase(values["phase"]), values["seconds"], values["text"])


Progress = Callable[[Event], None]


class Reporter:
    """Tells a Progress what happens, with the time since it was made."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._began = time.monotonic()

    def begin_again(self, progress: Progress) -> None:
        """Tells another Progress from now on, with the time since now."""
        self._progress = progress
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since this reporter was made."""
        return time.monotonic() - self._began

    def __call__(self, part: str, phase: Phase, text: str) -> None:
        """Reports one event."""
        self._progress(Event(part, phase, round(self.seconds, 3), text))
