"""What goes wrong, as data."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Action(StrEnum):
    """What is done to a process. `Fault.lasts` says when it is undone."""

    # Killed without warning; started again.
    KILL = "kill"
    # Told to end, and ends in order; started again.
    RESTART = "restart"
    # Stands still, and does not know of it when it goes on.
    FREEZE = "freeze"
    # Has no connection to NATS.
    CUT_OFF = "cut off"
    # Its callers hear nothing of it any more, whatever it does; then their connections break.
    BREAK_OFF = "break off"
    # Its clock is an hour ahead; afterwards it is right again.
    HOUR_AHEAD = "hour ahead"
    # Its clock is an hour behind; afterwards it is right again.
    HOUR_BEHIND = "hour behind"


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong."""

    # The process that it happens to.
    target: str
    action: Action
    # Seconds from the end of the fault before, or from the beginning.
    after: float = 0.5
    # Seconds until it is undone; a killed process is started again then.
    lasts: float = 0.1

    def __str__(self) -> str:
        return f"{self.action} {self.target} after {self.after:.2f} s for {self.lasts:.2f} s"


def in_turn(
    targets: Sequence[str],
    action: Action,
    *,
    seed: int,
    rounds: int = 1,
    after: tuple[float, float] = (0.3, 1.0),
    lasts: tuple[float, float] = (0.05, 0.5),
) -> Iterator[Fault]:
    """Each target once a round, in an order and at moments that follow from the seed."""
    chance = random.Random(seed)
    for _ in range(rounds):
        for target in chance.sample(targets, len(targets)):
            yield Fault(target, action, chance.uniform(*after), chance.uniform(*lasts))


def at_random(targets: Sequence[str], actions: Sequence[Action], *, seed: int) -> Iterator[Fault]:
    """Faults without end: any action, any target."""
    chance = random.Random(seed)
    while True:
        yield Fault(
            chance.choice(targets),
            chance.choice(actions),
            chance.uniform(0.5, 5.0),
            chance.uniform(0.05, 5.0),
        )
